"""The smoke tests themselves: each check fails when it should, and a broken one breaks nothing else."""

from __future__ import annotations

import ast
import importlib
import json
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from smoke.arch import runs_on
from smoke.checks import cuda_major, loader
from smoke.outcome import Skip
from tests.guard.guarded import AMPERE, Guarded

if TYPE_CHECKING:
    from collections.abc import Callable

SMOKE = Path(__file__).parents[1] / "smoke"
FLAGS = "sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
RTX = {
    "flavour": "rtx",
    "module": "fake_trt",
    "version": "1.7.1.116",
    "cuda_major": 12,
    "libs": "tensorrt_rtx_cu12-libs",
}


def check(name: str, **expected: Any) -> Any:
    return importlib.import_module(f"smoke.checks.{name}").check(expected)


def fails(name: str, **expected: Any) -> str:
    with pytest.raises(AssertionError) as error:
        check(name, **expected)
    return str(error.value)


# ---- the runner


@pytest.fixture
def run_checks(tmp_path: Path) -> Callable[..., dict[str, dict[str, Any]]]:
    def run(checks: dict[str, str], expected: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        folder = tmp_path / "smoke"
        shutil.copytree(SMOKE, folder, ignore=shutil.ignore_patterns("checks", "__pycache__"))
        (folder / "checks").mkdir()
        (folder / "checks" / "__init__.py").touch()
        for name, body in checks.items():
            (folder / "checks" / f"{name}.py").write_text(textwrap.dedent(body))
        (folder / "expected.json").write_text(json.dumps(expected or {}))
        done = subprocess.run([sys.executable, folder], capture_output=True, text=True, cwd="/", timeout=60)
        first, *others = map(json.loads, done.stdout.splitlines())
        assert first["smoke"] == "plan"
        assert first["checks"] == [other["name"] for other in others], done.stderr
        assert done.returncode == any(other["status"] == "failed" for other in others)
        return {other["name"]: other for other in others}

    return run


def test_every_kind_of_end_is_told_apart(run_checks: Callable[..., dict[str, dict[str, Any]]]) -> None:
    results = run_checks(
        {
            "a_good": "def check(expected): print('noise'); return {'seen': 1}",
            "b_assertion": "def check(expected): assert False, 'not so'",
            "c_bare_assertion": "def check(expected): assert 1 == 2",
            "d_error": "def check(expected): print('before'); 1 / 0",
            "e_skip": "from smoke.outcome import Skip\ndef check(expected): raise Skip('no GPU')",
            "f_crash": "import ctypes\ndef check(expected): ctypes.string_at(0)",
            "g_hang": "import time\nTIMEOUT = 1\ndef check(expected): time.sleep(60)",
            "h_exit": "import os\ndef check(expected): os._exit(0)",
            "i_system_exit": "import sys\ndef check(expected): sys.exit(0)",
            "j_syntax": "def check(expected:",
            "k_no_check": "",
            "l_not_json": "def check(expected): return {'x': object()}",
            "z_last": "def check(expected): return None",
        }
    )
    ends = {name: (result["status"], result["reason"]) for name, result in results.items()}
    assert ends["a_good"] == ("passed", "")
    assert results["a_good"]["detail"] == {"seen": 1}
    assert ends["b_assertion"] == ("failed", "not so")
    assert ends["c_bare_assertion"] == ("failed", "AssertionError")
    assert ends["d_error"] == ("failed", "ZeroDivisionError: division by zero")
    assert "before" in results["d_error"]["detail"]["output"]
    assert ends["e_skip"] == ("skipped", "no GPU")
    assert ends["f_crash"] == ("failed", "killed by SIGSEGV")
    assert any("ctypes" in line for line in results["f_crash"]["detail"]["output"])
    assert ends["g_hang"] == ("failed", "ended after 1 s without an answer")
    assert ends["h_exit"] == ("failed", "ended with exit code 0 and no result")
    assert ends["i_system_exit"][0] == "failed"
    assert ends["j_syntax"][1].startswith("SyntaxError")
    assert ends["k_no_check"][0] == "failed"
    assert ends["l_not_json"][0] == "failed"
    assert ends["z_last"] == ("passed", "")


def test_a_check_that_does_not_apply_is_not_listed(
    run_checks: Callable[..., dict[str, dict[str, Any]]],
) -> None:
    body = "NEEDS = ('torch', 'sm')\ndef check(expected): return expected['torch']"
    results = run_checks({"both": body, "plain": "def check(expected): pass"}, {"torch": "2.9"})
    assert list(results) == ["plain"]


def test_a_check_may_need_a_member_of_a_fact(run_checks: Callable[..., dict[str, dict[str, Any]]]) -> None:
    needs = ("packages.jupyterlab", "packages.ruamel.yaml", "packages.torch", "absent.jupyterlab")
    checks = {f"c{at}": f"NEEDS = ({need!r},)\ndef check(expected): pass" for at, need in enumerate(needs)}
    results = run_checks(checks, {"packages": {"jupyterlab": "4.4", "ruamel.yaml": "1"}})
    assert list(results) == ["c0", "c1"]


def test_every_check_of_ours_says_what_it_needs() -> None:
    names = sorted(path.stem for path in (SMOKE / "checks").glob("[!_]*.py"))
    assert len(names) >= 12
    for name in names:
        module = importlib.import_module(f"smoke.checks.{name}")
        assert module.__doc__
        facts = {"user", "python", "packages", "torch", "tensorrt", "sm", "bytecode", "projects"}
        facts |= {"guard", "slim", "system_packages", "toolkit"}
        assert {need.partition(".")[0] for need in module.NEEDS} <= facts
        assert callable(module.check)


def test_everything_is_python_3_8_and_standard_library_at_import() -> None:
    for path in sorted(SMOKE.rglob("*.py")):
        tree = ast.parse(path.read_text(), feature_version=(3, 8))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                )
                roots = {name.partition(".")[0] for name in names}
                assert roots <= sys.stdlib_module_names | {"smoke"}, path


# ---- the checks


def test_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert "root" in fails("user", user="trt")
    uid = tmp_path.stat().st_uid or 1234
    os.chown(tmp_path, uid, -1)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr("pwd.getpwuid", lambda _uid: SimpleNamespace(pw_name="trt"))
    expected: dict[str, Any] = {"user": "trt", "packages": {}, "prefix": str(tmp_path)}
    assert check("user", **expected) == {"user": "trt", "uid": uid}
    assert "not other" in fails("user", **{**expected, "user": "other"})
    tmp_path.chmod(0o555)
    assert "not writable" in fails("user", **expected)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    assert "belongs to" in fails("user", **expected)


def test_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert check("python", python=here)
    assert "not 3.4" in fails("python", python="3.4")
    expected: dict[str, Any] = {"python": here, "packages": {}, "prefix": str(tmp_path)}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin")
    assert "PATH starts with" in fails("python", **expected)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin")
    assert check("python", **expected)
    monkeypatch.setattr(sys, "prefix", "/usr")
    assert "sys.prefix" in fails("python", **expected)


def test_versions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, version in {"torch": "2.9.1", "Typing.Extensions": "4.15.0"}.items():
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path), "platlib": str(tmp_path)})
    good = {"torch": "2.9.1", "typing_extensions": "4.15.0"}
    assert check("versions", packages=good) == "2 distributions"
    assert "torch is 2.9.1, not 2.9.0" in fails("versions", packages={**good, "torch": "2.9.0"})
    assert "numpy is absent" in fails("versions", packages={**good, "numpy": "2"})
    assert "typing-extensions 4.15.0 is not in the lock" in fails("versions", packages={"torch": "2.9.1"})


def test_cuda_major(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"tensorrt-rtx-cu12-libs": "1.7.1.116", "nvidia-cublas-cu12": "12.8", "torch": "2.9.1"}
    monkeypatch.setattr(cuda_major, "installed", lambda: found)
    assert check("cuda_major", tensorrt=RTX)["version"] == "1.7.1.116"
    for stray in ("tensorrt-cu13-libs", "nvidia-cudnn-cu11"):
        monkeypatch.setattr(cuda_major, "installed", lambda stray=stray: {**found, stray: "1"})
        assert stray in fails("cuda_major", tensorrt=RTX)
    monkeypatch.setattr(cuda_major, "installed", lambda: {"torch": "2.9.1"})
    assert "not installed" in fails("cuda_major", tensorrt=RTX)


def test_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", module("numpy", __version__="2"))
    monkeypatch.setitem(sys.modules, "fake_trt", module("fake_trt", __version__="1.7.1.116"))
    assert check("imports", packages={"numpy": "2"}, tensorrt=RTX) == {"numpy": "2", "fake_trt": "1.7.1.116"}
    assert "not 1.6" in fails("imports", packages={}, tensorrt={**RTX, "version": "1.6"})
    check("imports", packages={}, tensorrt={**RTX, "version": "1.7.1.116.post1"})
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(ImportError):
        check("imports", packages={"torchvision": "0"})


@pytest.mark.parametrize(
    ("sm", "flags", "runs"),
    [
        ("86", FLAGS, "sm_86"),
        ("89", FLAGS, "sm_86"),
        ("103", FLAGS, "sm_100"),
        ("121", FLAGS, "sm_120"),
        ("110", FLAGS, None),
        ("60", FLAGS, None),
        ("110", FLAGS + " compute_120", None),
        ("130", FLAGS + " compute_120", "compute_120"),
        ("90", "sm_90a", "sm_90a"),
        ("91", "sm_90a", None),
        ("86", "sm_8", None),
    ],
)
def test_which_code_runs_on_which_gpu(sm: str, flags: str, runs: str | None) -> None:
    assert runs_on(sm, flags.split()) == runs


def module(name: str, **attributes: Any) -> ModuleType:
    made = ModuleType(name)
    made.__dict__.update(attributes)
    return made


def fake_torch(monkeypatch: pytest.MonkeyPatch, sm: str | None = None, flags: str = FLAGS) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: sm is not None,
        get_device_capability=lambda _device: (int((sm or "00")[:-1]), int((sm or "00")[-1])),
    )
    version = SimpleNamespace(cuda="12.8")
    parts = SimpleNamespace(_cuda_getArchFlags=lambda: flags)
    monkeypatch.setitem(
        sys.modules, "torch", module("torch", __version__="2.9.1+cu128", version=version, cuda=cuda, _C=parts)
    )


def test_torch_build_and_archs(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch(monkeypatch)
    assert check("torch_build", torch={"version": "2.9.1+cu128", "cuda": "12.8"})
    assert "not 2.9.1+cu126" in fails("torch_build", torch={"version": "2.9.1+cu126", "cuda": "12.8"})
    assert "not 13.0" in fails("torch_build", torch={"version": "2.9.1+cu128", "cuda": "13.0"})
    assert check("torch_archs", torch={}, sm=["80", "89"]) == {"80": "sm_80", "89": "sm_86"}
    assert "no code for SM 110" in fails("torch_archs", torch={}, sm=["80", "110"])
    fake_torch(monkeypatch, flags="")
    assert "no GPU code" in fails("torch_archs", torch={}, sm=["80"])


@pytest.mark.parametrize("name", ["torch_gpu", "engine_run", "engine_build"])
def test_without_a_gpu_is_a_skip_unless_one_was_given(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch(monkeypatch)
    fake_tensorrt(monkeypatch)
    expected = {"tensorrt": {**RTX, "flavour": "full"}, "sm": ["80"], "packages": {"onnx": "1"}, "torch": {}}
    monkeypatch.delenv("SMOKE_WITH_GPU", raising=False)
    with pytest.raises(Skip, match="no GPU"):
        check(name, **expected)
    monkeypatch.setenv("SMOKE_WITH_GPU", "1")
    assert "was given a GPU" in fails(name, **expected)


def test_bytecode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "torch" / "__init__.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)

    def compiled(mode: py_compile.PycInvalidationMode) -> Path:
        monkeypatch.delitem(sys.modules, "torch", raising=False)
        return Path(py_compile.compile(str(source), invalidation_mode=mode) or "")

    cached = compiled(py_compile.PycInvalidationMode.UNCHECKED_HASH)
    try:
        assert check("bytecode", prefix=str(tmp_path)) == "1 modules"
        cached.unlink()
        assert "has no bytecode" in fails("bytecode", prefix=str(tmp_path))
        assert not cached.exists(), "the check itself must not make it"
        for mode in (py_compile.PycInvalidationMode.TIMESTAMP, py_compile.PycInvalidationMode.CHECKED_HASH):
            compiled(mode)
            assert "checks against" in fails("bytecode", prefix=str(tmp_path))
        compiled(py_compile.PycInvalidationMode.UNCHECKED_HASH)
        source.write_text("x = 2\n")
        assert "another source" in fails("bytecode", prefix=str(tmp_path))
        cached.write_bytes(b"\0" * 16)
        assert "another Python" in fails("bytecode", prefix=str(tmp_path))
        assert "no module came from" in fails("bytecode", prefix="/nowhere")
    finally:
        sys.modules.pop("torch", None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes files of root's")
def test_guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    facts = {**AMPERE, "ref": "trtforge/tensorrt:cu12.1-ampere"}
    guarded = Guarded(tmp_path, facts)
    monkeypatch.setattr("smoke.checks.guard.GUARD", guarded.program)
    assert check("guard", guard=facts) == facts["ref"]
    assert check("guard", guard=facts, interpreter=sys.executable) == facts["ref"]
    assert "image.json says" in fails("guard", guard=AMPERE)
    guarded.source = '#!/bin/sh\n"$@"\n'
    assert guarded.program.exists()
    assert "TRTFORGE_GUARD=: (0, '', 0)" in fails("guard", guard=facts)  # not a line
    guarded.program.chmod(0o644)
    assert "not mode 755" in fails("guard", guard=facts)


def test_the_loader_must_not_need_ld_library_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected: dict[str, Any] = {"tensorrt": {**RTX, "module": "tensorrt_rtx", "version": "6.1"}, "sm": ["80"]}
    assert "does not find libtensorrt_rtx.so.6" in fails("loader", **expected)
    monkeypatch.setattr(loader, "SONAMES", {"tensorrt_rtx": ("libc.so.%s",)})
    assert check("loader", **expected) == {"loaded": ["libc.so.6"]}
    libraries = subprocess.run(["ldd", sys.executable], capture_output=True, text=True).stdout.split()
    libc = next(path for path in libraries if path.endswith("libc.so.6") and path.startswith("/"))
    shutil.copy(libc, tmp_path / "libtrtforgetest.so.6")
    monkeypatch.setattr(loader, "SONAMES", {"tensorrt_rtx": ("libtrtforgetest.so.%s",)})
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    assert "libtrtforgetest.so.6" in fails("loader", **expected)


def test_builder_resources_cover_the_cell(tmp_path: Path) -> None:
    family = {"87": "86", "121": "120"}
    assert loader.missing_resources([tmp_path], ["80"], family) == []  # one for all, as up to 10.14
    for sm in ("86", "120"):
        (tmp_path / f"libnvinfer_builder_resource_sm{sm}.so.10.16.1").touch()
    assert loader.missing_resources([tmp_path], ["86", "87", "121"], family) == []
    assert loader.missing_resources([tmp_path], ["87"], {}) == ["87"]
    assert loader.missing_resources([tmp_path], ["80", "86", "89"], family) == ["80", "89"]


# ---- engines, with a TensorRT that is not there


class FakeTensorRT:
    """What the sample engine uses of TensorRT. `built` gathers the targets; the rest is how it goes wrong."""

    def __init__(self) -> None:
        self.built: list[str | None] = []
        self.plan: bytes | None = b"plan"
        self.parses = True
        self.engine: object | None = object()


def fake_tensorrt(
    monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...] = ("SM80", "SM86")
) -> FakeTensorRT:
    fake = FakeTensorRT()

    class Logger:
        INTERNAL_ERROR, ERROR, INFO = range(3)

        def __init__(self) -> None:
            pass

    class Config:
        target: str | None = None

        def add_optimization_profile(self, _profile: object) -> None: ...

        def set_compute_capability(self, target: str, _index: int) -> None:
            self.target = target

    class Builder:
        def __init__(self, log: Any) -> None:
            self.log = log
            log.log(Logger.INFO, "not to be shown")

        def create_network(self, _flags: int) -> object:
            return object()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> SimpleNamespace:
            return SimpleNamespace(set_shape=lambda *_shapes: None)

        def build_serialized_network(self, _network: object, config: Config) -> bytes | None:
            fake.built.append(config.target)
            if fake.plan is None:
                self.log.log(Logger.ERROR, "no tactic")
            return fake.plan

    class Parser:
        num_errors = 2

        def __init__(self, _network: object, _log: object) -> None: ...

        def parse(self, _model: bytes) -> bool:
            return fake.parses

        def get_error(self, index: int) -> str:
            return f"problem {index}"

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, _plan: bytes) -> object | None:
            if fake.engine is None:
                self.log.log(Logger.ERROR, "compute capability 9.0 is not supported")
            return fake.engine

    trt = module(
        "fake_trt",
        __version__="1.7.1.116",
        ILogger=Logger,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=Runtime,
        ComputeCapability=SimpleNamespace(**{target: target for target in targets}),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=0),
    )
    monkeypatch.setitem(sys.modules, "fake_trt", trt)
    monkeypatch.setattr("smoke.sample_engine.onnx_model", lambda _precision: b"model")
    return fake


def cell(*sms: str, **tensorrt: Any) -> dict[str, Any]:
    return {"tensorrt": {**RTX, **tensorrt}, "sm": list(sms), "packages": {"onnx": "1"}, "torch": {}}


def test_rtx_builds_for_every_gpu_of_the_cell_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_tensorrt(monkeypatch)
    seen = check("engine_build", **cell("80", "86"))
    assert fake.built == ["SM80", "SM80", "SM86", "SM86"]
    assert seen["SM 86 float16"] == 4


def test_an_engine_that_is_not_built_fails_with_all_that_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_tensorrt(monkeypatch)
    assert "cannot build for SM 90" in fails("engine_build", **cell("80", "90"))
    fake.plan = None
    assert fails("engine_build", **cell("80")) == "float32 for SM 80: no engine: no tactic"
    fake.plan = b""
    assert "no engine" in fails("engine_build", **cell("80"))
    fake.parses = False
    assert "problem 0; problem 1" in fails("engine_build", **cell("80"))


def test_an_image_without_onnx_skips_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt(monkeypatch)
    with pytest.raises(Skip, match="no onnx"):
        check("engine_build", **{**cell("80"), "packages": {}})


@pytest.mark.parametrize("name", ["engine_build", "engine_run"])
def test_a_refused_gpu_is_a_failure_only_if_the_cell_claims_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_torch(monkeypatch, sm="90")
    fake = fake_tensorrt(monkeypatch)
    fake.engine = None
    fake.plan = None if name == "engine_build" else b"plan"
    flavour = "full" if name == "engine_build" else "rtx"
    with pytest.raises(Skip, match=r"SM 90.*80, 86"):
        check(name, **cell("80", "86", flavour=flavour))
    assert fails(name, **cell("80", "90", flavour=flavour))
