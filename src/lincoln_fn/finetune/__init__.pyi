from lincoln_fn.finetune.adapter_files import (
    load_adapter as load_adapter, save_adapter as save_adapter,
)
from lincoln_fn.finetune.dora import dora as dora
from lincoln_fn.finetune.lora import lora as lora
from lincoln_fn.finetune.dora import merge_lora as merge_lora
from lincoln_fn.finetune.quantize import quantize as quantize
