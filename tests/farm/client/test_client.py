"""The Python client against a real TLS gRPC server that misbehaves on demand."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest
from PIL import Image

from farm.client import FarmClient, FarmError, InvalidSpec, LocalCondition, NotFound, Unreachable
from farm.client.transfer import Partial, check_ending, check_output, put_in_place
from farm.media.clips import probe
from farm.spec import Condition, JobSpec, Media
from farm.spec import InvalidSpec as SpecInvalid
from farm.v1 import (
    jobs_pb2,
)
from farm.wire.security import Authority
from tests.farm.farm_on_demand import FIELDS, VIDEO, FarmOnDemand
from tests.farm.media.clips import HEIC, noise_clip


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("farm"))


@pytest.fixture
def farm(authority) -> Iterator[FarmOnDemand]:
    farm = FarmOnDemand(authority)
    farm.start()
    yield farm
    farm.stop()


@pytest.fixture
def client(farm) -> Iterator[FarmClient]:
    with farm.client() as client:
        yield client


WRONG_ENDINGS = ["x.mov", "x.webm", "x.gif", "x.png", "x.%04d.png", "x", "x.mp4.part", "mp4", ".mp4"]


def write_still(path: Path) -> Path:
    Image.new("RGB", (64, 64), (10, 20, 30)).save(path, "PNG")
    return path


def test_a_job_is_made_of_fields_or_of_a_spec_and_fields_win(client, farm):
    client.submit(**FIELDS, prompt="a river")
    client.submit(JobSpec(**FIELDS, prompt="a river"), frames=50)
    first, second = (request.spec for request in farm.submits)
    assert (first.frames, first.prompt) == (100, "a river")
    assert (second.frames, second.prompt) == (50, "a river")
    assert not first.HasField("steps"), "the model's default must stay the farm's to choose"


def test_local_files_are_uploaded_and_become_conditions(client, farm, tmp_path):
    noise_clip(tmp_path / "a.mp4", 3)
    write_still(tmp_path / "b.png")
    moved = []
    client.submit(
        JobSpec(**FIELDS, conditions=[Condition(media=Media(path="/on/the/farm.mp4"))]),
        conditions=[tmp_path / "a.mp4", LocalCondition(tmp_path / "b.png", frame=40, strength=0.5)],
        progress=lambda done, whole: moved.append((done, whole)),
    )
    on_farm, first, second = farm.submits[0].spec.conditions
    assert on_farm.media.path == "/on/the/farm.mp4"
    assert (first.media.artifact_id, first.frame, first.strength) == ("id of a.mp4", 0, 1.0)
    sent = (tmp_path / "a.mp4").read_bytes()
    assert (second.media.artifact_id, second.frame, second.strength) == ("id of b.png", 40, 0.5)
    assert farm.uploads == {"a.mp4": sent, "b.png": (tmp_path / "b.png").read_bytes()}
    assert (len(sent), len(sent)) in moved


def test_a_file_whose_name_is_not_utf_8_is_uploaded(client, farm, tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.mp4")
    write_still(path)
    client.submit(JobSpec(**FIELDS), conditions=[path])
    assert farm.uploads == {"caf\ufffd.mp4": path.read_bytes()}


def test_a_submit_whose_answer_was_lost_is_tried_again_and_makes_one_job(client, farm):
    farm.faults = ["unavailable after storing"]
    answer = client.submit(**FIELDS)
    assert answer.existing and len(farm.submits) == 2 and len(farm.jobs) == 1


def test_two_submits_are_two_jobs_unless_they_share_a_key(client, farm):
    assert client.submit(**FIELDS).job.id != client.submit(**FIELDS).job.id
    keyed = [client.submit(**FIELDS, idempotency_key="shot 7") for _ in range(2)]
    assert keyed[0].job.id == keyed[1].job.id and keyed[1].existing


def test_ctrl_c_in_the_beginning_of_a_call_does_not_keep_the_client_from_closing(farm, monkeypatch):
    """gRPC has noted the call by then, and would wait for its end, which nobody brings about."""

    def interrupted(state: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("grpc._channel._run_channel_spin_thread", interrupted)
    with pytest.raises(KeyboardInterrupt), farm.client() as client:
        list(client.watch("j-1"))
    (closing,) = [thread for thread in threading.enumerate() if thread.name == "close"]
    assert closing.daemon, "gRPC still waits; it must not keep the program from ending"


def test_only_unavailable_is_tried_again(client, farm):
    farm.faults = ["internal"]
    with pytest.raises(FarmError, match="disk full"):
        client.submit(**FIELDS)
    assert len(farm.submits) == 1


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({**FIELDS, "frames": 0}, "frames"),
        ({**FIELDS, "fps": "fast"}, "fps"),
        ({**FIELDS, "colour": "red"}, "colour"),
        ({"frames": 1}, "width"),
    ],
)
def test_a_wrong_spec_is_refused_before_anything_is_sent(client, farm, tmp_path, fields, field):
    (tmp_path / "a.mp4").write_bytes(VIDEO)
    with pytest.raises(InvalidSpec) as refused:
        client.submit(**fields, conditions=[tmp_path / "a.mp4"])
    assert refused.value.field == field and str(refused.value).startswith(f"{field}: ")
    assert not farm.uploads and not farm.submits


def test_what_only_the_farm_can_refuse_is_refused_before_the_upload(client, farm, tmp_path):
    write_still(tmp_path / "a.mp4")
    farm.faults = ["refuse"]
    with pytest.raises(InvalidSpec) as refused:
        client.submit(**FIELDS, model="x", conditions=[tmp_path / "a.mp4"])
    assert (refused.value.field, refused.value.problem) == ("model", "must be one of ltx-tiny, got 'x'")
    assert isinstance(refused.value, SpecInvalid) and isinstance(refused.value, FarmError)
    assert not farm.uploads and not farm.submits


@pytest.mark.parametrize(
    "make",
    [lambda path: path.write_bytes(HEIC.read_bytes()), lambda path: path.write_text("Dear Sir"), lambda path: path.touch(),
     lambda path: None],
    ids=["HEIC", "text", "empty", "missing"],
)  # fmt: skip
def test_media_that_the_farm_would_refuse_are_refused_before_the_first_byte_is_sent(
    client, farm, tmp_path, make
):
    good, bad = tmp_path / "good.png", tmp_path / "bad.jpg"
    write_still(good)
    make(bad)
    for call in (client.submit, client.plan):
        with pytest.raises(InvalidSpec, match="bad.jpg: (is|does)") as refused:
            call(**FIELDS, conditions=[good, LocalCondition(bad, frame=50)])
        assert refused.value.field == "conditions.1.media"
    assert not farm.uploads and not farm.submits


def test_media_that_the_caller_has_looked_at_are_not_looked_at_again(client, farm, tmp_path):
    facts = probe(write_still(tmp_path / "a.png"))
    (tmp_path / "b.png").write_bytes(b"changed since")
    client.submit(**FIELDS, conditions=[LocalCondition(tmp_path / "b.png", facts=facts)])
    assert farm.uploads == {"b.png": b"changed since"}


@pytest.mark.parametrize("name", WRONG_ENDINGS)
def test_a_place_that_does_not_end_as_the_video_does_is_refused_before_anything_is_stored(
    client, farm, tmp_path, name
):
    write_still(tmp_path / "a.png")
    for call in (client.submit, client.plan):
        for conditions in ([], [tmp_path / "a.png"]):
            with pytest.raises(InvalidSpec, match="must end in .mp4") as refused:
                call(**FIELDS, conditions=conditions, destination=tmp_path / name)
            assert refused.value.field == "output"
    assert not farm.uploads and not farm.submits


@pytest.mark.parametrize("job", ["j", "old"])
@pytest.mark.parametrize("name", WRONG_ENDINGS)
def test_a_video_is_not_downloaded_under_another_ending(client, farm, tmp_path, job, name):
    with pytest.raises(InvalidSpec, match=r"must end in .mp4 \(the format of this video\)") as refused:
        client.download(job, tmp_path / name)
    assert refused.value.field == "output" and not list(tmp_path.iterdir()) and not farm.offsets


@pytest.mark.parametrize("name", ["v.mp4", "V.MP4", "shot.v2.Mp4"])
def test_upper_and_lower_case_of_an_ending_are_alike(client, tmp_path, name):
    client.submit(**FIELDS, destination=name)
    assert client.download("j", tmp_path / name).read_bytes() == VIDEO


@pytest.mark.parametrize(
    ("name", "told"),
    [("x.mov", "got 'x.mov'; give a name such as x.mp4"), ("x", "such as x.mp4"), (".mp4", "such as "), ("x.%04d.png", "such as x.mp4; numbered images can't"),
     ("shot.####.exr", "such as shot.mp4; numbered images"), ("$F4.jpg", "such as video.mp4; numbered images")],
)  # fmt: skip
def test_the_refusal_of_an_ending_says_what_is_written(name, told):
    with pytest.raises(InvalidSpec, match=re.escape(told)):
        check_ending(Path(name), ".mp4")


def test_a_farm_that_does_not_say_how_it_writes_lets_every_ending_through():
    check_ending(Path("x.mov"), "")


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_device_a_pipe_and_a_socket_are_never_replaced(tmp_path, overwrite):
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.mp4"))
        (tmp_path / "link.mp4").symlink_to("/dev/null")
        for path in (
            tmp_path / "pipe.mp4",
            tmp_path / "socket.mp4",
            tmp_path / "link.mp4",
            Path("/dev/null"),
        ):
            before = path.lstat()
            with pytest.raises(InvalidSpec, match="is a device, a pipe or a socket; give the name of a file"):
                check_output(path, overwrite)
            (tmp_path / "made").touch()
            with pytest.raises(InvalidSpec, match="is a device"):
                put_in_place(tmp_path / "made", path, overwrite)
            assert os.path.samestat(path.lstat(), before)


def test_of_a_link_the_link_is_replaced_and_what_it_leads_to_stays(client, tmp_path):
    (tmp_path / "take.mp4").write_bytes(b"take 3")
    for target in ("take.mp4", "nowhere.mp4"):
        link = tmp_path / "latest.mp4"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(InvalidSpec, match="exists"):
            client.download("j", link)
        client.download("j", link, overwrite=True)
        assert link.read_bytes() == VIDEO and not link.is_symlink()
    assert (tmp_path / "take.mp4").read_bytes() == b"take 3"


@pytest.mark.parametrize(("name", "content"), [("gone.mp4", None), ("empty.mp4", b"")])
def test_a_file_that_is_missing_or_empty_is_refused(client, farm, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidSpec) as refused:
        client.upload(tmp_path / name)
    assert refused.value.field == "media" and name in str(refused.value)


def test_an_upload_that_breaks_is_sent_again(client, farm, tmp_path):
    (tmp_path / "a.mp4").write_bytes(VIDEO)
    farm.faults = ["unavailable"]
    assert client.upload(tmp_path / "a.mp4").id == "id of a.mp4"
    assert farm.uploads == {"a.mp4": VIDEO}


def test_watching_goes_on_from_the_last_event_after_a_break(client, farm):
    farm.faults = ["break", "end politely", ""]
    updates = list(client.watch("j"))
    assert [u.number for u in updates if isinstance(u, jobs_pb2.JobEvent)] == [1, 2, 3]
    assert updates[-1].state == jobs_pb2.JOB_STATE_SUCCEEDED
    assert farm.watches == [0, 1, 2]


def test_watching_survives_a_restart_of_the_server(client, farm):
    farm.faults = ["stay"]
    seen = []
    for update in client.watch("j"):
        seen.append(update)
        if len(seen) == 1:
            farm.restart()
    assert [u.number for u in seen if isinstance(u, jobs_pb2.JobEvent)] == [1, 2, 3]
    assert farm.watches == [0, 1]


def test_a_watcher_is_told_why_the_farm_is_away_once_it_could_not_be_reached_again(farm):
    told = []
    with farm.client(patience=10.0) as client:
        farm.faults = ["stay"]

        def away(error):
            told.append(str(error))
            if len(told) == 1:
                farm.start()

        for update in client.watch("j", away=away):
            if getattr(update, "number", 0) == 1:
                farm.stop()
    assert "no farm answers" in told[0]


def test_watching_ends_when_the_farm_stays_away(farm):
    farm.faults = ["stay"]
    with farm.client(patience=0.3) as client:
        updates = client.watch("j")
        next(updates)
        farm.stop()
        with pytest.raises(Unreachable, match="farmctl up"):
            list(updates)


def test_a_video_arrives_whole_and_only_under_its_name(client, farm, tmp_path):
    assert client.download("j", tmp_path / "v.mp4") == tmp_path / "v.mp4"
    assert (tmp_path / "v.mp4").read_bytes() == VIDEO
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_a_download_that_breaks_goes_on_where_it_was(client, farm, tmp_path):
    farm.faults = ["break", "break"]
    client.download("j", tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").read_bytes() == VIDEO
    assert farm.offsets == [0, 2**20, 2 * 2**20]


def test_a_download_that_was_given_up_is_continued_by_the_next(farm, tmp_path):
    farm.faults = ["break", "break", "break"]
    with farm.client(patience=0) as client, pytest.raises(Unreachable):
        client.download("j", tmp_path / "v.mp4")
    assert not (tmp_path / "v.mp4").exists()
    farm.faults = []
    with farm.client() as client:
        client.download("j", tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").read_bytes() == VIDEO
    assert farm.offsets == [0, 2**20]


def test_a_damaged_download_is_thrown_away(client, farm, tmp_path):
    farm.faults = ["flip"]
    with pytest.raises(FarmError, match="checksum"):
        client.download("j", tmp_path / "v.mp4")
    assert not list(tmp_path.iterdir())


def test_a_part_that_is_longer_than_the_video_is_not_trusted(client, farm, tmp_path):
    (tmp_path / ".v.mp4.video.part").write_bytes(VIDEO * 2)
    client.download("j", tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").read_bytes() == VIDEO and farm.offsets == [0]


def test_ctrl_c_in_a_download_leaves_nothing(client, tmp_path):
    def interrupt(done: int, whole: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.download("j", tmp_path / "v.mp4", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_the_next_download_replaces_a_killed_one_of_another_video(client, tmp_path):
    beside = [".v.mp4.other.mp4.old.part", ".w.mp4.old.part", ".v.mp4.part", "v.mp4.old.part"]
    for name in [".v.mp4.old.part", *beside]:
        (tmp_path / name).write_bytes(b"begun")
    client.download("j", tmp_path / "v.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["v.mp4", *beside])


def test_a_downloaded_video_is_as_readable_as_any_file_here(client, tmp_path):
    (tmp_path / "any").touch()
    client.download("j", tmp_path / "v.mp4")
    assert (tmp_path / "v.mp4").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize(
    "name", ["n" * 251 + ".mp4", "\u00e9" * 120 + ".mp4", "[a]*?.mp4", "line\nbreak.mp4"]
)
def test_a_video_may_have_any_name_that_a_file_can_have(client, tmp_path, name):
    client.download("j", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["n" * 256, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(client, tmp_path, name):
    with pytest.raises(InvalidSpec, match="give another name") as refused:
        client.download("j", tmp_path / name)
    assert refused.value.field == "output" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("artifact_id", ["../../x", "/x", ".", "a/b", "a\0b", "x" * 300, "a\nb"])
def test_an_id_from_a_hostile_farm_is_never_part_of_a_path(tmp_path, artifact_id):
    with pytest.raises(FarmError, match="which is not a valid id"):
        Partial(tmp_path / "v.mp4", artifact_id, 1)


def test_a_file_whose_name_is_no_text_is_uploaded(client, farm, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/shot\xff.mp4"))
    path.write_bytes(VIDEO)
    client.upload(path)
    assert list(farm.uploads) == ["shot\ufffd.mp4"]


def test_a_file_that_exists_is_kept_unless_told_otherwise(client, farm, tmp_path):
    target = tmp_path / "v.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(InvalidSpec, match="overwrite") as refused:
        client.download("j", target)
    assert refused.value.field == "output" and target.read_bytes() == b"mine"
    client.download("j", target, overwrite=True)
    assert target.read_bytes() == VIDEO


@pytest.mark.parametrize("where", ["missing/v.mp4", "."])
def test_a_place_where_no_file_can_be_is_refused(client, tmp_path, where):
    with pytest.raises(InvalidSpec) as refused:
        client.download("j", tmp_path / where)
    assert refused.value.field == "output"


def test_an_unfinished_job_has_no_video(client, tmp_path):
    with pytest.raises(FarmError, match="has no video: the job is running"):
        client.download("unfinished", tmp_path / "v.mp4")


def test_two_downloads_to_one_name_do_not_mix(client, farm, tmp_path):
    moved: list[int] = []

    def again(done: int, whole: int) -> None:
        if not moved:
            moved.append(done)
            with pytest.raises(FarmError, match="already downloading to"):
                client.download("j", tmp_path / "v.mp4")

    client.download("j", tmp_path / "v.mp4", progress=again)
    assert moved and (tmp_path / "v.mp4").read_bytes() == VIDEO


def test_what_does_not_exist_is_not_found(client):
    with pytest.raises(NotFound, match="no job 'none'"):
        client.job("none")


def test_a_wrong_token_is_said_to_be_one(farm):
    with farm.client(token="wrong") as client, pytest.raises(FarmError, match="does not accept this token"):
        client.job("j")


def test_a_farm_that_is_away_is_unreachable_and_the_message_says_what_to_do(authority):
    away = FarmOnDemand(authority)
    away.start()
    away.stop()
    with away.client(patience=0.2) as client, pytest.raises(Unreachable) as told:
        client.nodes()
    assert away.address in str(told.value) and "farmctl up" in str(told.value)


def test_a_call_waits_for_a_farm_that_comes_back(farm):
    farm.stop()
    with farm.client() as client, futures.ThreadPoolExecutor(1) as pool:
        nodes = pool.submit(client.nodes)
        with pytest.raises(futures.TimeoutError):
            nodes.result(timeout=0.3)
        farm.start()
        assert [node.name for node in nodes.result(timeout=5)] == ["a"]


def test_another_farm_at_the_address_is_recognised(farm, tmp_path: Path):
    stranger = Authority.open(tmp_path)
    client = FarmClient(farm.address, stranger.ca_pem, "x", patience=0.1)
    with client, pytest.raises(Unreachable, match="is not the farm of this profile"):
        client.nodes()


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A program that takes connections and does `answer` with each; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def take() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    answer(connection)

        threading.Thread(target=take, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


def hang_up(connection: socket.socket) -> None:
    connection.close()


def speak_http(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    connection.close()


kept_open: list[socket.socket] = []


@pytest.mark.parametrize(
    "answer, words",
    [
        (kept_open.append, "did not answer in 1 s"),
        # A proxy does so whose farmd is just starting.
        (hang_up, "no farm answers at"),
        (speak_http, "is not a farm"),
    ],
    ids=["silent", "hangs up", "speaks HTTP"],
)
def test_a_certificate_is_blamed_only_where_one_was_seen(authority, answer, words):
    with listening(answer) as address, pytest.raises(Unreachable, match=words) as told:
        FarmClient(address, authority.ca_pem, "x", patience=1.0).nodes()
    assert "certificate" not in str(told.value)
