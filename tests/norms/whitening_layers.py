"""The whitening layers by the names that tests give them: class and options."""

from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

WHITENING = {
    "iw": (InstanceWhiten2d, {}),
    "bw": (BatchWhiten2d, {}),
    "swa": (SwitchWhiten2d, {"sw_type": 2}),
    "sw3": (SwitchWhiten2d, {"sw_type": 3}),
    "swb": (SwitchWhiten2d, {"sw_type": 5}),
    "swb-tied": (SwitchWhiten2d, {"sw_type": 5, "tie_weight": True}),
}
