"""trt.IBuilderConfig from `BuildOptions`, for each TensorRT in its own words; polygraphy writes it."""

from __future__ import annotations

import warnings
from typing import Any

from trtkit.build.calibration_cache import calibrator_class
from trtkit.build.interrupt import Interrupt
from trtkit.build.network import Network
from trtkit.build.options import BuildOptions
from trtkit.build.weak_typing import constrains
from trtkit.errors import RequestError
from trtkit.flavour import TensorRT
from trtkit.sidecar import HardwareCompatibility
from trtkit.tensors import Profile
from trtkit.trt_api import quiet_polygraphy

HARDWARE_LEVELS: dict[HardwareCompatibility, str] = {
    "ampere-plus": "AMPERE_PLUS",
    "same-compute-capability": "SAME_COMPUTE_CAPABILITY",
}
"""-> members of trt.HardwareCompatibilityLevel; the second is there from TensorRT 10.9."""


def make_config(
    network: Network,
    profile: Profile,
    sms: tuple[str, ...],
    options: BuildOptions,
    tensorrt: TensorRT,
    interrupt: Interrupt,
) -> Any:
    """The builder's configuration for `network`.

    Raises:
        RequestError: this TensorRT has no such option.
    """
    trt = tensorrt.module
    common = {
        "profiles": [_polygraphy_profile(profile)],
        "memory_pool_limits": {trt.MemoryPoolType.WORKSPACE: options.workspace},
        "builder_optimization_level": options.optimisation_level,
        "hardware_compatibility_level": _hardware_level(options, tensorrt),
        "version_compatible": options.version_compatible,
        "progress_monitor": interrupt.monitor(trt),
    }
    quiet_polygraphy()
    with warnings.catch_warnings():
        # polygraphy sets a timing cache for TensorRT-RTX as well, which has none and warns of that.
        warnings.simplefilter("ignore", DeprecationWarning)
        make = _rtx(sms, common) if tensorrt.flavour == "tensorrt-rtx" else _full(options, tensorrt, common)
        config = make(network.builder, network.network)
    # On by default, and polygraphy leaves it so for TensorRT-RTX.
    if options.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)
    else:
        config.set_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        # Plug-ins are in libraries of this version; an engine for others has to carry them.
        config.plugins_to_serialize = network.parser.get_used_vc_plugin_libraries()
    return config


def _full(options: BuildOptions, tensorrt: TensorRT, common: dict[str, Any]) -> Any:
    from polygraphy.backend.trt import CreateConfig

    if tensorrt.strongly_typed:
        return CreateConfig(tf32=options.precision != "fp32", **common)
    return CreateConfig(
        tf32=options.precision != "fp32",
        fp16=options.precision in ("fp16", "int8"),
        bf16=options.precision == "bf16",
        int8=options.precision == "int8",
        precision_constraints="prefer" if constrains(options) else None,
        calibrator=_calibrator(options, tensorrt) if options.precision == "int8" else None,
        **common,
    )


def _rtx(sms: tuple[str, ...], common: dict[str, Any]) -> Any:
    from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

    return CreateConfigRTX(compute_capabilities=[(int(sm[:-1]), int(sm[-1])) for sm in sms], **common)


def _polygraphy_profile(profile: Profile) -> Any:
    from polygraphy.backend.trt import Profile as PolygraphyProfile

    shapes = PolygraphyProfile()
    for name, span in profile.items():
        shapes.add(name, min=span.min, opt=span.opt, max=span.max)
    return shapes


def _calibrator(options: BuildOptions, tensorrt: TensorRT) -> Any:
    """The calibrator that was given, or one that has nothing but the cache."""
    from polygraphy.backend.trt import Calibrator

    cache = options.calibration_cache
    if options.calibrator is not None or cache is None:
        return options.calibrator
    base = getattr(tensorrt.module, calibrator_class(cache))
    return Calibrator(data_loader=[], cache=str(cache), BaseClass=base)


def _hardware_level(options: BuildOptions, tensorrt: TensorRT) -> Any:
    if options.hardware_compatibility == "none":
        return None
    name = HARDWARE_LEVELS[options.hardware_compatibility]
    level = getattr(tensorrt.module.HardwareCompatibilityLevel, name, None)
    if level is None:
        raise RequestError(
            f"{tensorrt} has no hardware compatibility {options.hardware_compatibility!r}",
            ("next", "use TensorRT 10.9 or newer, or build one engine for each GPU"),
        )
    return level
