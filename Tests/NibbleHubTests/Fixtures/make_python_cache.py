"""Fills a cache by huggingface_hub from a server in this file; serves; or checks a cache with huggingface_hub. See RECIPE.md."""

import hashlib
import http.server
import json
import os
import shutil
import sys
import threading
import urllib.parse

MODEL = "ada/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = "model.safetensors"
FILES = {
    "config.json": b"{}\n",
    "sub/deep/vocab.json": b"[1]",
    "empty.json": b"",
    LARGE: bytes(range(256)) * 4,
}


def identifier(path):
    content = FILES[path]
    if path == LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def siblings(self):
        for path, content in FILES.items():
            entry = {"rfilename": path, "size": len(content), "blobId": identifier(path)}
            if path == LARGE:
                entry["lfs"] = {"sha256": identifier(path), "size": len(content), "pointerSize": 130}
            yield entry

    def tree(self):
        for path, content in FILES.items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": identifier(path)}
            if path == LARGE:
                entry["lfs"] = {"oid": identifier(path), "size": len(content), "pointerSize": 130}
            yield entry

    def do_GET(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if path.startswith(f"/api/models/{MODEL}/tree/"):
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(list(self.tree())).encode())
        elif path.startswith(f"/api/models/{MODEL}"):
            about = {"id": MODEL, "modelId": MODEL, "sha": COMMIT, "private": False, "siblings": list(self.siblings())}
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(about).encode())
        elif path.startswith(f"/{MODEL}/resolve/") and path.split("/", 5)[5] in FILES:
            name = path.split("/", 5)[5]
            headers = {"ETag": f'"{identifier(name)}"', "X-Repo-Commit": COMMIT}
            if name == LARGE:
                headers |= {"X-Linked-Etag": f'"{identifier(name)}"', "X-Linked-Size": str(len(FILES[name]))}
                headers["Location"] = f"http://localhost:{self.server.server_port}/store/{name}"
                self.answer(302, headers)
            else:
                self.send_content(FILES[name], headers)
        elif path.startswith("/store/"):
            self.send_content(FILES[LARGE], {"ETag": f'"{identifier(LARGE)}"'})
        else:
            self.answer(404, {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def send_content(self, content, headers):
        wanted = self.headers.get("Range", "")
        if not wanted.startswith("bytes="):
            self.answer(200, headers, content)
            return
        first, last = wanted.removeprefix("bytes=").split("-")
        last = min(int(last or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.answer(206, headers, content[int(first) : last + 1])


def serve(port):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    return server


def fill(folder):
    server = serve(0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    from huggingface_hub import snapshot_download

    shutil.rmtree(folder, ignore_errors=True)
    print(snapshot_download(MODEL, cache_dir=folder, token=False))
    server.shutdown()
    # Locks are made anew, and are of no use in a repository.
    shutil.rmtree(os.path.join(folder, ".locks"), ignore_errors=True)


def check(folder):
    os.environ["HF_HUB_OFFLINE"] = "1"
    from huggingface_hub import scan_cache_dir, snapshot_download, try_to_load_from_cache

    snapshot = snapshot_download(MODEL, cache_dir=folder, local_files_only=True)
    assert os.path.basename(snapshot) == COMMIT, snapshot
    for path, content in FILES.items():
        found = try_to_load_from_cache(MODEL, path, cache_dir=folder)
        assert found == os.path.join(snapshot, path), (path, found)
        with open(found, "rb") as file:
            assert file.read() == content, path
    report = scan_cache_dir(folder)
    assert not report.warnings, report.warnings
    (model,) = report.repos
    (revision,) = model.revisions
    assert (model.repo_id, model.nb_files, revision.commit_hash) == (MODEL, len(FILES), COMMIT)
    assert revision.refs == frozenset({"main"}), revision.refs
    print(f"huggingface_hub finds all {len(FILES)} files of {MODEL} in {folder}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--serve", port]:
            serve(int(port)).serve_forever()
        case ["--check", folder]:
            check(folder)
        case [folder]:
            fill(folder)
        case _:
            sys.exit(__doc__)
