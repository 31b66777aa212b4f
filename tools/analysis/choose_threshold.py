"""Choose the score below which an image is of none of the classes."""

from frlr_mm.commands.choose_threshold import main

if __name__ == '__main__':
    main()
