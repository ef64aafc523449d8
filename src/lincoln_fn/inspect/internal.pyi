from lincoln_fn.inspect.records import (
    TRACE_HEADINGS as TRACE_HEADINGS, cells as cells, labels_of as labels_of, note as note,
    table as table,
)
from lincoln_fn.inspect.summary import (
    SUMMARY_HEADINGS as SUMMARY_HEADINGS, Summary as Summary, remark_on as remark_on,
    rows_of as rows_of,
)
