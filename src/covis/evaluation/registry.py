"""Every benchmark by the name that `covis eval` knows it by.

To add one: write `run(data, settings, report) -> list[Row]` (see `covis.evaluation.benchmark`) in a
module of `covis.evaluation.benchmarks`, a function here that imports it and calls it, and an entry
in BENCHMARKS. What papers print for it goes into `covis.evaluation.published_results`, under the
same protocol.
`covis reproduce` then finds its data by the marks and runs it. `run` is only called for a folder
that has one of the marks; anything else that is wrong with the data raises ArgumentError that
names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from covis.evaluation.benchmark import Benchmark, Report, Row, Settings


def _pairs(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import pairs

    return pairs.run(data, settings, report)


def _hpatches(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import hpatches

    return hpatches.run(data, settings, report)


def _megadepth(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import posed_pairs

    return posed_pairs.run_megadepth(data, settings, report)


def _scannet(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import posed_pairs

    return posed_pairs.run_scannet(data, settings, report)


def _phototourism(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import phototourism

    return phototourism.run(data, settings, report)


def _queries(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import retrieval

    return retrieval.run_queries(data, settings, report)


def _revisited(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import retrieval

    return retrieval.run_revisited(data, settings, report)


def _landmarks(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import retrieval

    return retrieval.run_landmarks(data, settings, report)


def _recognition(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import retrieval

    return retrieval.run_recognition(data, settings, report)


def _places(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import retrieval

    return retrieval.run_places(data, settings, report)


def _spair(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import dense, spair

    return dense.run(spair.evaluate, data, settings, report, "keypoint transfer")


def _willow(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import dense, pf_willow

    return dense.run(pf_willow.evaluate, data, settings, report, "keypoint transfer")


def _davis(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.dense.features import FINE_DENSE
    from covis.evaluation.benchmarks import davis, dense

    protocol = "label propagation"
    return dense.run(davis.evaluate, data, settings, report, protocol, FINE_DENSE)


def _voc07(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import dense, object_discovery

    return dense.run(object_discovery.evaluate_voc07, data, settings, report, "object discovery")


def _coco20k(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import dense, object_discovery

    return dense.run(object_discovery.evaluate_coco20k, data, settings, report, "object discovery")


def _seven_scenes(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import localisation

    return localisation.run_seven_scenes(data, settings, report)


def _aachen(data: Path, settings: Settings, report: Report) -> list[Row]:
    from covis.evaluation.benchmarks import localisation

    return localisation.run_aachen(data, settings, report)


BENCHMARKS: Mapping[str, Benchmark] = {
    "pairs": Benchmark(
        "any pairs of pictures with a known homography or relative pose",
        "your own pictures",
        "one folder a set: the pictures and pairs.json, see covis.evaluation.datasets.pairs",
        ("pairs.json", "*/pairs.json", "*/*/pairs.json"),
        _pairs,
        methods="pairs",
    ),
    "hpatches": Benchmark(
        "homographies: XFeat's accuracy; LightGlue's precision, recall and areas",
        "https://github.com/hpatches/hpatches-dataset (hpatches-sequences-release)",
        "i_*/ and v_*/ with 1.ppm to 6.ppm and H_1_2 to H_1_6",
        ("i_*/H_1_2", "v_*/H_1_2"),
        _hpatches,
        ("hpatches-sequences-release",),
        methods="pairs",
    ),
    "megadepth1500": Benchmark(
        "relative poses outdoors, 1500 pairs",
        "https://cvg-data.inf.ethz.ch/megadepth/megadepth1500.zip, or LoFTR's test data, "
        "https://github.com/zju3dv/LoFTR",
        "pairs_calibrated.txt and images/; or scene_info/*.npz and the pictures at their paths",
        (
            "pairs_calibrated.txt",
            "*.npz",
            "scene_info/*.npz",
            "megadepth_test_1500_scene_info/*.npz",
        ),
        _megadepth,
        methods="pairs",
    ),
    "scannet1500": Benchmark(
        "relative poses indoors, 1500 pairs",
        "https://github.com/cvg/glue-factory (scannet1500), after ScanNet's terms, "
        "http://www.scan-net.org",
        "pairs_calibrated.txt, or SuperGlue's scannet_test_pairs_with_gt.txt, and images/",
        ("pairs_calibrated.txt", "scannet_test_pairs_with_gt.txt"),
        _scannet,
        methods="pairs",
    ),
    "phototourism": Benchmark(
        "relative poses of tourists' photos, Image Matching Challenge 2021",
        "https://www.cs.ubc.ca/~kmyi/imw2020/data.html (validation scenes)",
        "SCENE/set_100/ with images/, calibration/ and new-vis-pairs/keys-th-0.1.npy",
        ("*/set_100/new-vis-pairs/keys-th-0.1.npy",),
        _phototourism,
        methods="pairs",
    ),
    "queries": Benchmark(
        "any queries with right answers among pictures",
        "your own pictures",
        "db/, queries/ and queries.json, see covis.evaluation.datasets.queries; "
        "or folders that have them",
        ("queries.json", "*/queries.json"),
        _queries,
        methods="search",
    ),
    "roxford5k": Benchmark(
        "image search, Revisited Oxford: mAP, mP@10",
        "http://cmp.felk.cvut.cz/revisitop",
        "gnd_roxford5k.pkl and jpg/",
        ("gnd_roxford5k.pkl",),
        _revisited,
        methods="search",
    ),
    "rparis6k": Benchmark(
        "image search, Revisited Paris: mAP, mP@10",
        "http://cmp.felk.cvut.cz/revisitop",
        "gnd_rparis6k.pkl and jpg/",
        ("gnd_rparis6k.pkl",),
        _revisited,
        methods="search",
    ),
    "gldv2": Benchmark(
        "image search, Google Landmarks v2: retrieval mAP@100",
        "https://github.com/cvdfoundation/google-landmark",
        "retrieval_solution_v2.1.csv, test/ and index/ with a/b/c/ID.jpg",
        ("retrieval_solution_v2.1.csv",),
        _landmarks,
        methods="search",
    ),
    "gldv2-recognition": Benchmark(
        "landmarks named by the most similar photo, Google Landmarks v2: recognition micro-AP",
        "https://github.com/cvdfoundation/google-landmark",
        "recognition_solution_v2.1.csv, train.csv, test/ and train/ with a/b/c/ID.jpg",
        ("recognition_solution_v2.1.csv",),
        _recognition,
        ("gldv2",),
        methods="search",
    ),
    "places": Benchmark(
        "place recognition: recall@1, 5, 10 within 25 metres",
        "https://github.com/gmberton/VPR-datasets-downloader (Pitts30k, MSLS, Tokyo 24/7, ...)",
        "database/ and queries/ with pictures named @EAST@NORTH@..., of one split",
        ("database/@*", "database/*/@*"),
        _places,
        methods="search",
    ),
    "7scenes": Benchmark(
        "photos of rooms located in maps: median position and rotation",
        "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
        "SCENE/ with TrainSplit.txt, TestSplit.txt and seq-01/frame-000000.color.png, .pose.txt; "
        "or pictures and cameras.json",
        ("TrainSplit.txt", "*/TrainSplit.txt", "cameras.json"),
        _seven_scenes,
        ("7-scenes", "7scenes"),
        methods="search",
    ),
    "aachen": Benchmark(
        "photos by day and night located in a map of Aachen, v1.1: a submission, or scores",
        "https://www.visuallocalization.net/datasets/",
        "images/images_upright/, 3D-models/aachen_v_1_1/ and queries/",
        ("3D-models/aachen_v_1_1/images.bin",),
        _aachen,
        ("Aachen-Day-Night-v1.1", "aachen_v1.1"),
        methods="search",
    ),
    "spair": Benchmark(
        "dense features: keypoints between objects of a kind, PCK",
        "https://cvlab.postech.ac.kr/research/SPair-71k/ (SPair-71k.tar.gz)",
        "JPEGImages/, PairAnnotation/ and Layout/large/test.txt",
        ("Layout/large/test.txt",),
        _spair,
        ("SPair-71k",),
    ),
    "pf-willow": Benchmark(
        "dense features: keypoints between objects of a kind, PCK",
        "https://www.di.ens.fr/willow/research/proposalflow/ (PF-dataset.zip)",
        "car(G)/, car(M)/, ... with images and .mat files, or with test_pairs_pf.csv beside them",
        ("car(S)/*.mat", "test_pairs_pf.csv"),
        _willow,
        ("PF-WILLOW", "PF-dataset"),
    ),
    "davis": Benchmark(
        "dense features: masks carried through videos, DAVIS-2017: J, F",
        "https://davischallenge.org/davis2017/code.html (TrainVal, 480p)",
        "JPEGImages/480p/, Annotations/480p/ and ImageSets/2017/val.txt; or a clip of your own, "
        "frames/ and masks/",
        ("ImageSets/2017/val.txt", "masks/*.png"),
        _davis,
        ("DAVIS", "bmx-trees"),
    ),
    "voc07": Benchmark(
        "dense features: objects found without labels, CorLoc",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/ (VOCtrainval_06-Nov-2007.tar)",
        "VOCdevkit/VOC2007/ with JPEGImages/, Annotations/ and ImageSets/",
        (
            "ImageSets/Main/trainval.txt",
            "VOC2007/ImageSets/Main/trainval.txt",
            "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt",
        ),
        _voc07,
    ),
    "coco20k": Benchmark(
        "dense features: objects found without labels, CorLoc",
        "https://cocodataset.org/#download (train2014), and its list is "
        "https://github.com/valeoai/LOST/blob/master/datasets/coco_20k_filenames.txt",
        "train2014/, annotations/instances_train2014.json and coco_20k_filenames.txt",
        ("coco_20k_filenames.txt",),
        _coco20k,
    ),
}
