"""Builds the optional native kernels: one source for each instruction set the compiler knows, one
library; see swbench/native/. Copies the suites and the supplement's tables into the package.
"""

import platform
import runpy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import CompileError

SOURCE = Path("swbench/native/src")
DIGEST = runpy.run_path("swbench/native/sources.py")["digest"](SOURCE)
FLAGS = ["-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra"]
# nothing that would lose a NaN
FAST = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
X86 = {
    "v4": (16, ["-march=x86-64-v4", "-mprefer-vector-width=512"]),
    "v3": (8, ["-march=x86-64-v3"]),
}


class BuildKernels(build_ext):
    """Compiles `isa.c` once for each instruction set, leaves out those the compiler does not know,
    and links them with the rest.
    """

    def build_extension(self, ext: Extension) -> None:
        """Builds `ext`; setuptools turns a failure into a warning, because the extension is
        optional.
        """
        sets = {"generic": (4, [])}
        if platform.machine().lower() in ("x86_64", "amd64"):
            sets = {**X86, **sets}
        objects, defines = [], [("SOURCES", DIGEST)]
        with ThreadPoolExecutor() as pool:  # of compilers, which are processes
            compiled = {name: pool.submit(self._set, name, *sets[name]) for name in sets}
        for name, job in compiled.items():
            try:
                objects += job.result()
            except CompileError:
                if name == "generic":
                    raise
                self.warn(f"this compiler cannot build the {name} kernels: left out")
            else:
                defines.append((f"HAVE_{name.upper()}", "1"))
        for source in ("library.c", "threads.c", "tensors.c"):
            objects += self._compile(source, [*FLAGS, "-O2"], "common", defines)
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        for other in target.parent.glob("_kernels*.so"):  # built for another Python, or long ago
            other.unlink()
        # where Python itself lies on this machine is nothing to a library that does not link it
        self.compiler.linker_so = [
            word for word in self.compiler.linker_so if not word.startswith(("-L", "-Wl,-rpath"))
        ]
        self.compiler.library_dirs = []
        self.compiler.link_shared_object(objects, str(target), libraries=["m"])

    def get_ext_filename(self, fullname: str) -> str:
        """Without the tag of the Python that builds it, which is nothing to the library."""
        return f"{super().get_ext_filename(fullname).partition('.')[0]}.so"

    def _set(self, name: str, width: int, flags: list[str]) -> list[str]:
        """The kernels for one instruction set, with vectors of `width` numbers."""
        macros = [("ISA", name), ("VL", str(width))]
        return self._compile("isa.c", [*FLAGS, *FAST, *flags], name, macros)

    def _compile(
        self, source: str, flags: list[str], folder: str, macros: list[tuple[str, str]]
    ) -> list[str]:
        output = str(Path(self.build_temp) / folder)
        return self.compiler.compile(
            [str(SOURCE / source)], output_dir=output, macros=macros, extra_postargs=flags
        )


class Wheel(bdist_wheel):
    """One for every Python: the library is called through ctypes and links none."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tag of the platform with that of any Python."""
        return "py3", "none", super().get_tag()[2]


class BuildPackage(build_py):
    """Adds to the package what lies beside it in a checkout, where people look for it; see
    swbench/shipped.py. An editable installation reads it there.
    """

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if not self.editable_mode:
            for source, target in self._shipped().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target)

    def get_source_files(self) -> list[str]:
        """With what an sdist needs to build the same package."""
        return [*super().get_source_files(), *self._shipped()]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """With the copies, for those who ask what was installed."""
        return [*super().get_outputs(include_bytecode), *self._shipped().values()]

    def _shipped(self) -> dict[str, str]:
        places = runpy.run_path("swbench/shipped.py")["IN_CHECKOUT"]
        return {
            str(path): str(Path(self.build_lib, "swbench", "shipped", name, path.name))
            for name, place in places.items()
            for path in sorted(Path(place).iterdir())
        }


setup(
    ext_modules=[
        Extension(
            "swbench.native._kernels",
            [str(SOURCE / name) for name in ("isa.c", "library.c", "threads.c", "tensors.c")],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels, "build_py": BuildPackage, "bdist_wheel": Wheel},
)
