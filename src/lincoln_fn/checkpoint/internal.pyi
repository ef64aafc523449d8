from lincoln_fn.checkpoint.access import *
from lincoln_fn.checkpoint.contents import read_score as read_score
from lincoln_fn.checkpoint.file import check_score as check_score
from lincoln_fn.checkpoint.directory import (
    file_of as file_of, newest_first as newest_first, rank_by_score as rank_by_score,
)
from lincoln_fn.checkpoint.places import (
    LONG as LONG, read_head as read_head, write_file as write_file,
)
