"""What a kernel has beside Python, loaded by `--ext=workbench.cells.extension`."""
