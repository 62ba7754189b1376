"""An operator that ONNX does not have: the error and the line it names."""

from __future__ import annotations

import pytest

from trtkit.export.unsupported import UnsupportedOperator, source_line

CAPTURED = """\
File "/srv/app/model.py", line 31, in forward
    return self.head(self.body(image))
  File "/usr/lib/python3/site-packages/torch/nn/modules/container.py", line 250, in forward
    input = module(input)
  File "/srv/app/layers.py", line 7, in forward
    return deform_conv2d(x, self.offset(x), self.weight)
  File "/usr/lib/python3/site-packages/torchvision/ops/deform_conv.py", line 92, in deform_conv2d
    return torch.ops.torchvision.deform_conv2d("""

TRACED = """\
/usr/lib/python3/site-packages/torch/_ops.py(1255): __call__
/usr/lib/python3/site-packages/torchvision/ops/deform_conv.py(92): deform_conv2d
/srv/app/layers.py(7): forward
/usr/lib/python3/site-packages/torch/nn/modules/module.py(1775): _wrapped_call_impl
/srv/app/model.py(31): forward
/srv/app/train.py(90): <module>
Serialized   File "code/__torch__.py", line 28
    _5 = ops.torchvision.deform_conv2d(argument_1, w, _0)
         ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~ <--- HERE
"""

SCRIPTED = """\
  File "/srv/app/layers.py", line 12
    def forward(self, q):
        scaled = q * 2
        return scaled_dot_product_attention(scaled, q, q)
               ~~~~~~~~~~~~~~~~~~~~~~~~~~~~ <--- HERE
Serialized   File "code/__torch__.py", line 5
    return torch.scaled_dot_product_attention(scaled, q, q)
           ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~ <--- HERE
"""

ONLY_PYTORCH = """\
File "/usr/lib/python3/site-packages/torch/nn/modules/module.py", line 1775, in _call_impl
    return forward_call(*args)
"""


@pytest.mark.parametrize(
    ("trace", "line"),
    [
        (CAPTURED, "/srv/app/layers.py:7 in forward: return deform_conv2d(x, self.offset(x), self.weight)"),
        (TRACED, "/srv/app/layers.py:7 in forward"),
        (SCRIPTED, "/srv/app/layers.py:12: return scaled_dot_product_attention(scaled, q, q)"),
        (ONLY_PYTORCH, "/usr/lib/python3/site-packages/torch/nn/modules/module.py:1775 in _call_impl: "
         "return forward_call(*args)"),
        ("", None),
    ],
)  # fmt: skip
def test_the_line_is_the_innermost_that_is_not_pytorchs_own(trace: str, line: str | None) -> None:
    assert source_line(trace) == line


def test_the_error_names_the_ways_out() -> None:
    younger = UnsupportedOperator("torchvision::deform_conv2d", "body.1", "model.py:3", 18, 19)
    assert younger.fact("next") == "--opset 19, the first that has it"
    assert younger.fact("module") == "body.1"
    unknown = UnsupportedOperator("acme::twice", "", None, 18, None)
    assert unknown.fact("line") is None
    assert "--translate" in unknown.text()
    assert younger.exit_code == unknown.exit_code == 1
