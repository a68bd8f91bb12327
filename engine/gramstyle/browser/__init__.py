"""Style transfer inside a browser, without a server: a folder of static files."""

from gramstyle.browser.folder import check_web_folder, write_web_folder
from gramstyle.browser.runtime import RUNTIME_FILES, fetch_runtime, read_runtime
from gramstyle.browser.site import Defaults, site_files

__all__ = [
    "RUNTIME_FILES",
    "Defaults",
    "check_web_folder",
    "fetch_runtime",
    "read_runtime",
    "site_files",
    "write_web_folder",
]
