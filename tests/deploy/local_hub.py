"""A server that speaks what `huggingface_hub` needs to make a repository and upload a folder.

Of the hub's protocol: /api/repos/create, preupload (every file is asked for whole, in the commit,
but *.pth, which goes to the large-file store), the store's batch and PUT, and the commit.
"""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalHub:
    """A hub on the loopback device; a context manager.

    Attributes:
        address: Address, as in HF_ENDPOINT.
        files: Content of each file of the commit, by its path.
        asked: Every request, such as `POST /api/repos/create`.
        created: What was asked for with the repository.
    """

    def __init__(self) -> None:
        self.files, self.asked, self.created, self.stored = {}, [], {}, {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, body=b"", **headers):
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", headers.pop("kind", "application/json"))
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def content(self):
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def do_PUT(self):
                hub.asked.append(f"PUT {self.path}")
                hub.stored[self.path.rpartition("/")[2]] = self.content()
                self.answer()

            def do_GET(self):
                hub.asked.append(f"GET {self.path}")
                self.answer({"id": "me/digits", "sha": 40 * "0", "siblings": []})

            def do_POST(self):
                hub.asked.append(f"POST {self.path}")
                self.answer(hub.reply(self.path, self.content()))

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def reply(self, path, content):
        """Answer a POST."""
        if path == "/api/repos/create":
            self.created = json.loads(content)
            return {"url": f"{self.address}/me/{self.created['name']}", "name": "me/digits"}
        if "/preupload/" in path:
            paths = [file["path"] for file in json.loads(content)["files"]]
            modes = {p: "lfs" if p.endswith(".pth") else "regular" for p in paths}
            files = [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]
            return {"files": files}
        if path.endswith("/lfs/objects/batch"):
            objects = json.loads(content)["objects"]
            for each in objects:
                each["actions"] = {"upload": {"href": f"{self.address}/store/{each['oid']}"}}
            return {"transfer": "basic", "objects": objects}
        if "/commit/" in path:
            for line in content.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    self.files[value["path"]] = self.stored[value["oid"]]
            return {"commitUrl": f"{self.address}/me/digits/commit/1", "commitOid": 40 * "1"}
        return {"errors": [], "warnings": []}  # validate-yaml

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
