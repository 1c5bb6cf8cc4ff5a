"""Has nuscenes-devkit load nuImages' tables and compose their masks. Runs in the devkit's own environment, not in ours:

    .venv-judge/bin/python tests/judge/devkit_images.py data/demo_nuimages v1.0-train v1.0-val --masks masks.npz

Prints JSON: `categories` (index -> name), and `images` (version -> file of each image with annotations).
`--masks` gets an array for each image, named by its file: (H, W) int32 indices of categories, 0 where no mask is.
"""

import argparse
import json
import sys

import numpy as np
from nuimages import NuImages
from nuimages.utils.utils import name_to_index_mapping


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataroot")
    parser.add_argument("versions", nargs="+")
    parser.add_argument("--masks", required=True)
    args = parser.parse_args()
    categories, images, masks = {}, {}, {}
    for version in args.versions:
        tables = NuImages(version, args.dataroot, lazy=False, verbose=False)
        categories |= {index: name for name, index in name_to_index_mapping(tables.category).items()}
        tokens = [sample["key_camera_token"] for sample in tables.sample]
        shown = {tables.get("sample_data", token)["filename"]: tables.get_segmentation(token)[0] for token in tokens}
        images[version] = list(shown)
        masks |= shown
    np.savez(args.masks, **masks)
    json.dump({"categories": categories, "images": images}, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
