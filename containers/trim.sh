#!/bin/sh
# trim.sh PREFIX: delete from the image's environment what no run uses; containers/README.md has the table of what is left.
# Each line is a claim that shardsynth and stock SDV work without it; `apptainer test` and tests/site/container hold it to that.
set -eu
cd "$1"/lib/python3*/site-packages

# For building C++ extensions against torch, and torch's own test programs.
rm -rf torch/include torch/share torch/test torch/lib/*_test.so torch/lib/*.a
find torch/bin -type f ! -name torch_shm_manager -delete
rm -f torch/testing/_internal/py312_*.py  # its own tests of newer syntax, which does not compile
# Arrow's servers, query plans and headers; links of the same library under three names become links again.
rm -rf pyarrow/include pyarrow/src pyarrow/includes pyarrow/libarrow_flight* pyarrow/_flight* pyarrow/libarrow_python_flight*
rm -rf pyarrow/*.pyx pyarrow/*.pxi pyarrow/*.pxd
for library in pyarrow/lib*.so; do
    if [ -e "$library" ]; then
        full=$(find pyarrow -name "$(basename "$library").*.*.*" | head -n 1)
        if [ -n "$full" ] && cmp -s "$library" "$full"; then
            for name in "$library" "$library".*; do
                if [ "$name" != "$full" ]; then ln -sf "$(basename "$full")" "$name"; fi
            done
        fi
    fi
done
# sdv imports boto3 to download its demo tables; the descriptions of Amazon's services are read only then.
find botocore/data -mindepth 1 -maxdepth 1 -type d -exec rm -rf {} +
rm -rf boto3/data boto3/examples
# plotly's JavaScript: figures of SDV that nobody opens inside an image. The report draws its own.
rm -rf plotly/labextension plotly/package_data/plotly.min.js
# Packages' own tests, type stubs and sources of compiled modules.
find . -type d \( -name tests -o -name test \) ! -path './torch/*' -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.hpp' -o -name '*.h' -o -name '*.c' -o -name '*.cpp' \) -delete
find . -type d -name __pycache__ -prune -exec rm -rf {} +

# Tools that install and build.
rm -rf pip pip-*.dist-info setuptools setuptools-*.dist-info pkg_resources _distutils_hack distutils-precedence.pth wheel wheel-*.dist-info
rm -f ../../../bin/pip*

# Of the base: package lists, manuals, translations; the licences (copyright files) stay.
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/* /root/.cache
rm -rf /usr/share/man /usr/share/info /usr/share/locale /usr/share/lintian /usr/lib/python3*/ensurepip /usr/share/python-wheels
find /usr/share/doc -type f ! -name copyright -delete
find /usr/share/doc -mindepth 1 -type d -empty -delete
