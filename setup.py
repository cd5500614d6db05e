"""Builds the optional native kernels: one source for each instruction set the compiler knows, one
library; see swbench/native/.
"""

import platform
import runpy
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
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
    and links them with `library.c`.
    """

    def build_extension(self, ext: Extension) -> None:
        """Builds `ext`; setuptools turns a failure into a warning, because the extension is
        optional.
        """
        sets = {"generic": (4, [])}
        if platform.machine().lower() in ("x86_64", "amd64"):
            sets = {**X86, **sets}
        objects, defines = [], [("SOURCES", DIGEST)]
        for name, (width, flags) in sets.items():
            try:
                objects += self._compile(
                    "isa.c", [*FLAGS, *FAST, *flags], name, [("ISA", name), ("VL", str(width))]
                )
            except CompileError:
                if name == "generic":
                    raise
                self.warn(f"this compiler cannot build the {name} kernels: left out")
            else:
                defines.append((f"HAVE_{name.upper()}", "1"))
        for source in ("library.c", "team.c"):
            objects += self._compile(source, [*FLAGS, "-O2"], "common", defines)
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self.compiler.link_shared_object(objects, str(target), libraries=["m"])

    def _compile(
        self, source: str, flags: list[str], folder: str, macros: list[tuple[str, str]]
    ) -> list[str]:
        output = str(Path(self.build_temp) / folder)
        return self.compiler.compile(
            [str(SOURCE / source)], output_dir=output, macros=macros, extra_postargs=flags
        )


setup(
    ext_modules=[
        Extension(
            "swbench.native._kernels",
            [str(SOURCE / name) for name in ("isa.c", "library.c", "team.c")],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
)
