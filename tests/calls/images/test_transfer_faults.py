# SPDX-License-Identifier: Apache-2.0
"""A matrix of faults between a host and an image service, drawn with a seed: their kinds, places and numbers.

    drop      the connection ends; reset: with RST; stall: silence for longer than the host's patience
    garbage   no HTTP, a chunk without a size, a byte turned; refuse: an error status, or nobody listens

The cases mostly wait, so a batch of them runs at once.  Each has images of its own, and an SR where nothing else happens;
the dom0 Pythons take turns.
"""

import concurrent.futures
import os
import queue
import random
import time
import uuid

import pytest
import XenAPI

from tests.calls import calls
from tests.calls import pythons
from tests.calls import sr_disks
from tests.calls.images import transfers
from tests.harness.image_service import service_faults as faults
from tests.harness.image_service.service import ImageService
from tests.harness.pool import Pool

SEED = 20260101
BATCHES = 8
LANES = 8
# An image service that waits for a processor beside a load of 20 is no silent one: 1 s was too short there.
SETTINGS = "[network]\nconnect_timeout = 10\nidle_timeout = 3\ntotal_timeout = 100\n"
STALL_S = 8
# The waits before the five attempts to continue are 15.5 s in all; twenty that get no further take 0.5 s and a stall each.
CASE_LIMIT_S = 120
BATCH_LIMIT_S = 580
START, LAST = 0.0, 1.0
SUCCESS, RETRYABLE, PERMANENT, NOT_FOUND = "success", "RetryableError", "PluginError", "ImageNotFound"


class Case(object):
    """`planned` faults: (class, options), options with a number `share` say where: that share of the image's data.

    outcome:  SUCCESS, or the class of the error
    requests: how many of the transfer's main request (GET or PUT of the data) must come; None: any number
    changes:  of the call's arguments
    """

    def __init__(self, direction, outcome, *planned, requests=None, **changes):
        self.direction = direction
        self.outcome = outcome
        self.planned = planned
        self.requests = requests
        self.changes = changes

    @property
    def is_long(self):
        return any(options.get("times", 1) is None for _, options in self.planned)

    def __str__(self):
        return "%s -> %s: %s %s" % (self.direction, self.outcome, ", ".join(
            "%s%s" % (kind.__name__, options) for kind, options in self.planned), self.changes or "")

    def arm(self, service_faults, image_id, size_bytes):
        for kind, options in self.planned:
            options = dict(options)
            if "share" in options:
                # The last byte is the one that does not come.
                options[options.pop("where", "at")] = int(options.pop("share") * (size_bytes - 1))
            path = "%s%s$" % (image_id, options.pop("suffix", "/file" if "api_version" not in self.changes else ""))
            service_faults.append(kind(path=path, **options))


class ShortChunks(faults.Chunking):
    """The body ends early and in good form, as uWSGI ends one that it could not read in time."""

    def __init__(self, at, **match):
        super().__init__(**match)
        self.at = at

    def _chunks(self, response, stop):
        return super()._chunks(response, min(self.at, stop))


class LostEnd(faults.Chunking):
    """All of the data, but not the empty chunk that ends them."""

    def transmit(self, response):
        return super().transmit(response)[:-1] + [faults.End()]


class HangUpWithoutRange(faults.HangUp):
    """The connection ends, and Range is ignored."""

    def receive(self, request, wire):
        del request.headers["Range"]
        super().receive(request, wire)


class OtherRange(faults.Fault):
    """A part of the data with 206, but another one than was asked for."""

    def receive(self, request, wire):
        first = int(request.headers["Range"].split("=")[1].rstrip("-"))
        request.headers.replace_header("Range", "bytes=%d-" % (first // 2))


def draw_downloads(rng):
    def add(outcome, *planned, **more):
        drawn.append(Case("download", outcome, *planned, **more))

    drawn = []
    breaks = [(faults.HangUp, {}), (faults.HangUp, {"reset": True}), (faults.Stall, {"seconds": STALL_S}), (faults.BadChunk, {})]
    for kind, options in breaks:
        for share in [START, LAST] + [rng.random() for _ in range(4)]:
            add(SUCCESS, (kind, dict(options, share=share)), requests=2)
        # Again and again, and each time a little further.
        add(SUCCESS, *[(kind, dict(options, share=rng.random() / 8, nth=nth)) for nth in (1, 2, 3)], requests=4)
    for kind, options in breaks:
        share = rng.random()
        add(SUCCESS, (kind, dict(options, share=share)), (faults.GarbageStatus, {"nth": 2}), requests=3)
        add(SUCCESS, (kind, dict(options, share=share)), (faults.RangeIgnored, {"nth": 2}), requests=3)
        add(RETRYABLE, (kind, dict(options, share=share)), (faults.Corruption, {"nth": 2, "at": 0}), requests=2)
    for status, outcome in [(503, SUCCESS), (500, SUCCESS), (416, SUCCESS), (401, PERMANENT), (403, PERMANENT),
                            (404, NOT_FOUND), (410, NOT_FOUND)]:
        add(outcome, (faults.HangUp, {"share": rng.random()}), (faults.Refusal, {"status": status, "nth": 2}),
            requests=3 if outcome == SUCCESS else 2)
    add(SUCCESS, (faults.HangUp, {"share": rng.random()}), (OtherRange, {"nth": 2}), requests=3)
    for status, outcome in [(401, PERMANENT), (403, PERMANENT), (404, NOT_FOUND), (410, NOT_FOUND), (409, PERMANENT),
                            (408, RETRYABLE), (429, RETRYABLE), (500, RETRYABLE), (503, RETRYABLE), (204, RETRYABLE)]:
        add(outcome, (faults.Refusal, {"status": status}), requests=1)
    for share in (START, LAST, rng.random(), rng.random(), rng.random()):
        add(RETRYABLE, (faults.Corruption, {"share": share}), requests=1)
    add(RETRYABLE, (faults.GarbageStatus, {}), requests=1)
    add(RETRYABLE, (faults.HangUp, {}), requests=1)
    add(RETRYABLE, (faults.Stall, {"seconds": STALL_S}), requests=1)
    add(RETRYABLE, (faults.Truncation, {"share": rng.random()}))
    add(RETRYABLE, (faults.WrongLength, {"difference": 100}))
    add(RETRYABLE, (faults.WrongLength, {"difference": -100}))
    add(SUCCESS, (ShortChunks, {"share": rng.random()}), requests=2)
    add(SUCCESS, (ShortChunks, {"share": LAST}), requests=2)
    add(SUCCESS, (LostEnd, {}), requests=1)
    add(SUCCESS, (LostEnd, {}), api_version=1, requests=3)
    add(SUCCESS, (faults.HangUp, {"share": rng.random()}), api_version=1, requests=3)
    add(SUCCESS, (faults.NoDigest, {}), requests=1)
    add(SUCCESS, (faults.WrongDigest, {}), requests=1)
    for kind, options in breaks[:3] + [(faults.GarbageStatus, {}), (faults.Refusal, {"status": 503})]:
        # Nobody tells the size or the SHA-512 of the image.
        add(SUCCESS, (kind, dict(options, suffix="")), (faults.HangUp, {"share": rng.random()}), requests=2)
    add(RETRYABLE, (faults.Refusal, {"status": 503, "suffix": ""}), (faults.WrongDigest, {}), requests=1)
    add(RETRYABLE, (faults.Refusal, {"status": 503, "suffix": ""}), (faults.Corruption, {"share": rng.random()}), requests=1)
    # Faults that do not pass.
    add(SUCCESS, (faults.HangUp, {"at": 700000, "times": None}))
    add(RETRYABLE, (HangUpWithoutRange, {"share": rng.random(), "times": None}))
    add(RETRYABLE, (faults.HangUp, {"at": 0, "times": None}), requests=21)
    add(RETRYABLE, (faults.HangUp, {"share": rng.random()}), (faults.Refusal, {"status": 503, "nth": 2, "times": None}), requests=6)
    add(RETRYABLE, (faults.HangUp, {"share": rng.random()}), (faults.GarbageStatus, {"nth": 2, "times": None}), requests=6)
    add(RETRYABLE, endpoint="http://127.0.0.1:1", requests=0)
    return drawn


def draw_uploads(rng):
    def add(outcome, *planned, **more):
        drawn.append(Case("upload", outcome, *planned, **more))

    drawn = []
    silences = [(faults.HangUp, {}), (faults.HangUp, {"reset": True}), (faults.Stall, {"seconds": STALL_S}),
                (faults.GarbageStatus, {}), (faults.Refusal, {"status": 503})]
    for is_reset in (False, True):
        for share in [START, LAST] + [rng.random() for _ in range(4)]:
            add(RETRYABLE, (faults.UploadHangUp, {"share": share, "reset": is_reset}), requests=1)
        add(RETRYABLE, (faults.UploadHangUp, {"at": 1 << 30, "reset": is_reset}), requests=1)
        # The answer is lost, the data are not.
        add(SUCCESS, (faults.AnswerLost, {"method": "PUT", "reset": is_reset}), requests=1)
    for share in [START] + [0.1 * rng.random() for _ in range(3)]:
        # More than the sockets hold is still to come.
        add(RETRYABLE, (faults.UploadStall, {"share": share, "seconds": STALL_S}), requests=1)
    add(SUCCESS, (faults.UploadStall, {"share": LAST, "seconds": 5}), requests=1)
    add(SUCCESS, (faults.GarbageStatus, {"method": "PUT"}), requests=1)
    add(SUCCESS, (faults.Stall, {"method": "PUT", "seconds": STALL_S}), requests=1)
    for kind, options in silences:
        add(RETRYABLE, (kind, dict(options, method="GET", suffix="")), requests=0)
        add(RETRYABLE, (kind, dict(options, method="PATCH", suffix="", nth=rng.choice((1, 2)))), requests=0)
        # After the data the image is looked at again.
        add(SUCCESS, (kind, dict(options, method="GET", suffix="", nth=2)), requests=1)
    for status, outcome in [(401, PERMANENT), (403, PERMANENT), (404, NOT_FOUND), (409, PERMANENT), (410, PERMANENT),
                            (413, PERMANENT), (408, RETRYABLE), (500, RETRYABLE), (502, RETRYABLE), (503, RETRYABLE)]:
        for share in (START, LAST, rng.random()):
            add(outcome, (faults.Refusal, {"status": status, "share": share, "where": "after", "method": "PUT"}), requests=1)
    add(RETRYABLE, endpoint="http://127.0.0.1:1", requests=0)
    return drawn


RNG = random.Random(SEED)
CASES = draw_downloads(RNG) + draw_uploads(RNG)
RNG.shuffle(CASES)
CASES.sort(key=lambda case: not case.is_long)  # a batch begins with its longest case


def test_matrix_is_large():
    for direction in ("download", "upload"):
        assert sum(case.direction == direction for case in CASES) >= 50


class Lane(object):
    """An SR for one case at a time, with the disk that is uploaded and the image that is downloaded."""

    def __init__(self, pool, service, host):
        self.site = transfers.Site(pool, service, pool.add_sr("lane", host), host)
        self.uuids = sr_disks.write_chain(self.site.sr.path, blocks=3)
        self.digest = sr_disks.guest_digest(self.site.sr.path, self.uuids[0])
        image = service.add_image()
        self.site.upload(image.id, self.uuids)
        self.data = self.site.image_content(image)


@pytest.fixture(scope="module")
def lanes():
    with Pool(hosts=len(pythons.ROTATION), python=pythons.ROTATION) as pool, ImageService(has_v1=True) as service:
        for host in pool.hosts:
            calls.write_settings(host, SETTINGS)
        waiting = queue.Queue()
        for number in range(LANES):
            waiting.put(Lane(pool, service, number % len(pythons.ROTATION)))
        yield waiting
        assert [host.dom0.processes.running_pids() for host in pool.hosts] == [[] for _ in pool.hosts]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_faults(lanes, batch):
    with concurrent.futures.ThreadPoolExecutor(LANES) as executor:
        running = [(case, executor.submit(judge, lanes, case)) for case in CASES[batch::BATCHES]]
        found = [(case, future.result(BATCH_LIMIT_S)) for case, future in running]
    failures = ["%s\n    %s" % (case, text) for case, text in found if text]
    assert not failures, "%d of %d cases:\n%s" % (len(failures), len(found), "\n".join(failures))


def judge(lanes, case):
    """Run one case. Returns the differences from the expected outcome, or None."""
    lane = lanes.get()
    try:
        image = lane.site.service.add_image(lane.data if case.direction == "download" else None)
        case.arm(lane.site.service.faults, image.id, len(lane.data))
        before = sr_disks.describe_tree(lane.site.sr.path)
        started = time.monotonic()
        stack = [str(uuid.uuid4())]
        outcome = describe_outcome(case, lane, image, stack)
        took_s = time.monotonic() - started
        return "; ".join(find_faults(case, lane, image, stack, before, outcome, took_s)) or None
    except Exception as error:
        return "the case itself failed: %r" % error
    finally:
        lanes.put(lane)


def describe_outcome(case, lane, image, stack):
    try:
        if case.direction == "download":
            lane.site.download(image.id, stack, **case.changes)
        else:
            lane.site.upload(image.id, lane.uuids, **case.changes)
        return SUCCESS, ""
    except XenAPI.Failure as failure:
        return failure.details[2], failure.details[3:]


def find_faults(case, lane, image, stack, before, outcome, took_s):
    if outcome[0] != case.outcome:
        yield "ended as %s %s" % outcome
    if took_s > CASE_LIMIT_S:
        yield "took %d s" % took_s
    if calls.find_processes(lane.site.sr.uuid):
        yield "left processes"
    if case.direction == "download" and outcome[0] == SUCCESS:
        new_path = sr_disks.vhd_path(lane.site.sr.path, stack[0])
        if sr_disks.guest_digest(lane.site.sr.path, stack[0]) != lane.digest:
            yield "the new disk differs"
        os.unlink(new_path)
    if sr_disks.describe_tree(lane.site.sr.path) != before:
        yield "the SR changed: %s" % sorted(set(sr_disks.describe_tree(lane.site.sr.path)) ^ set(before))
    lane.site.wait_settled(image)
    data_requests = [request for request in lane.site.image_requests(image) if request.method == (
        "GET" if case.direction == "download" else "PUT")
        and (request.path.endswith("/file") or request.path.startswith("/v1"))]
    if case.requests not in (None, len(data_requests)):
        yield "made %d requests: %s" % (len(data_requests), [request.headers.get("Range") for request in data_requests])
    if case.direction == "upload":
        if (image.status == "active") != (outcome[0] == SUCCESS):
            yield "the image is %s" % image.status
        elif image.status == "active" and lane.site.image_content(image) != lane.data:
            yield "the image has other data"
