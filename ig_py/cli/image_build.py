"""``ig-py image build``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ig_py.cli import _image, _needed_flags, _terminal
from ig_py.errors import UsageError

if TYPE_CHECKING:
    from ig_py.oci.store import Store

_PULL_POLICIES = ("always", "missing", "never")
_NEEDS = (
    _needed_flags.Need(
        "btfhub-archive",
        lambda values: values["btfgen"] == "true",
        "no types of kernels are added",
        "add --btfgen",
    ),
    _needed_flags.Need(
        "builder-image-pull",
        lambda values: bool(values["builder-image"]),
        "a clang of this machine compiles",
        "add --builder-image",
    ),
)


@click.command(
    "build",
    help="Build a gadget image from the sources in the directory PATH.\n\n"
    "A clang of this machine compiles; --builder-image uses a container instead.",
)
@_image.arguments(1)
@click.option("-t", "--tag", default="", metavar="NAME", help="Name of the image")
@click.option("-f", "--file", metavar="FILE", help="Build file (default: PATH/build.yaml)")
@click.option("-o", "--output", metavar="DIR", help="Keep the objects in this directory")
@click.option("-l", "--local", is_flag=True, help="Use a clang of this machine (the default)")
@click.option("--builder-image", metavar="IMAGE", help="Compile in a container of this image")
@click.option(
    "--builder-image-pull",
    default="missing",
    show_default=True,
    metavar="|".join(_PULL_POLICIES),
    help="When to pull the builder image",
)
@click.option(
    "--validate-metadata/--no-validate-metadata",
    default=True,
    help="Check the metadata file (default: true)",
)
@click.option(
    "--update-metadata",
    is_flag=True,
    help="Add to the metadata file what the program declares",
)
@click.option("--btfgen", is_flag=True, help="Add the types of kernels that have none")
@click.option("--btfhub-archive", metavar="DIR", help="Checkout of btfhub-archive, for --btfgen")
@_image.store_option
def command(
    args: tuple[str, ...],
    tag: str,
    file: str | None,
    output: str | None,
    local: bool,
    builder_image: str | None,
    builder_image_pull: str,
    validate_metadata: bool,
    update_metadata: bool,
    btfgen: bool,
    btfhub_archive: str | None,
    store: Store,
) -> None:
    from ig_py.toolchain.build import build_gadget
    from ig_py.toolchain.options import BuildOptions

    if local and builder_image is not None:
        raise UsageError("--local and --builder-image cannot be used at the same time")
    if builder_image_pull not in _PULL_POLICIES:
        raise UsageError(
            f"invalid value for --builder-image-pull: {builder_image_pull}. "
            f"Valid values are {','.join(_PULL_POLICIES)}"
        )
    _needed_flags.check_command(_NEEDS, {"btfgen": btfgen, "builder-image": builder_image})
    reference = _image.parse_reference(tag) if tag else None
    options = BuildOptions(
        path=args[0],
        file=file,
        output=output,
        update_metadata=update_metadata,
        validate_metadata=validate_metadata,
        builder_image=builder_image,
        builder_image_pull=builder_image_pull,
        btfgen=btfgen,
        btfhub_archive=btfhub_archive,
        log=_terminal.detail,
        debug=_terminal.debug,
    )
    image = build_gadget(options)
    store.add(image, str(reference) if reference is not None else None)
    name = reference.with_digest(image.index.digest) if reference else f"@{image.index.digest}"
    _terminal.info(f"Successfully built {name}")
