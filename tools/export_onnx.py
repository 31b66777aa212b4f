"""Export a checkpoint as an ONNX file, preprocessing and scores included."""

from frlr_mm.commands.export_onnx import main

if __name__ == '__main__':
    main()
