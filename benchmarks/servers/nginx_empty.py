"""The ceiling of the HTTP loads: nginx with one worker, which answers a constant and computes nothing."""

from __future__ import annotations

import os
import shutil

import work

CONFIG = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log stderr error;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 1m; client_body_buffer_size 256k;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi; default_type application/json;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{{"value":"yes","confidence":0.9}}'; }} }}
}}
"""


def main() -> None:
    told = work.told(__doc__)
    path = told.folder / "nginx.conf"
    path.write_text(CONFIG.format(workers=told.workers, folder=told.folder, port=told.port))
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    os.execv(nginx, [nginx, "-e", "stderr", "-c", str(path), "-p", str(told.folder)])


if __name__ == "__main__":
    main()
