"""A page in Chromium without a window, driven by its DevTools protocol: keys are pressed as a person presses them."""

import json
import os
import select
import shutil
import subprocess
import time
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
TIMEOUT = 60.0  # seconds for one answer
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "Backspace": (8, ""), "ArrowDown": (40, ""), "ArrowUp": (38, "")}  # code, text


class BrowserPage:
    """An open page.

    Attributes:
        errors: what its console said, and what was thrown in it.
    """

    def __init__(self, send, receive):
        self._send, self._receive = send, receive
        self._last, self._session, self._seen = 0, None, []
        self.errors = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """The answer to one command; what the page says meanwhile is noted."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        self._send(message | ({"sessionId": self._session} if self._session else {}))
        while True:
            said = self._receive()
            if said.get("id") == self._last:
                assert "error" not in said, (method, said)
                return said["result"]
            self._note(said)

    def open(self, file):
        """Open a file, and wait until it is there."""
        self._seen.clear()
        self.ask("Page.navigate", url=f"file://{file}")
        while "Page.loadEventFired" not in self._seen:
            self._note(self._receive())

    def run(self, script):
        """The value of a script; a promise is waited for."""
        said = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def wait_for(self, script):
        """Wait until a script says yes: a page does some things a moment after a key."""
        end = time.monotonic() + TIMEOUT
        while not self.run(script):
            assert time.monotonic() < end, f"never: {script}"
            time.sleep(0.02)

    def press(self, *keys):
        """Press keys, one after the other."""
        for key in keys:
            code, text = KEYS.get(key, (ord(key[0].upper()), key))
            held = {"key": key, "code": key if len(key) > 1 else f"Key{key.upper()}", "windowsVirtualKeyCode": code}
            self.ask("Input.dispatchKeyEvent", type="keyDown", **held, **({"text": text} if text else {}))
            self.ask("Input.dispatchKeyEvent", type="keyUp", **held)

    def tab_to(self, is_there, limit=60):
        """Press Tab until a script says of the focused element, ``at``, that it is the one that is meant."""
        for _ in range(limit):
            self.press("Tab")
            if self.run(f"(at => {is_there})(document.activeElement)"):
                return
        raise AssertionError(f"no element with {is_there} is reached by {limit} presses of Tab")

    def resize(self, width, height=900):
        """Give the window a size in pixels."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, *, dark=False, printed=False):
        """Ask for a dark or light page, on screen or on paper."""
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", media="print" if printed else "screen", features=features)

    def _note(self, said):
        self._seen.append(said.get("method"))
        if said.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.errors.append(said["params"])


@contextmanager
def browser_page(folder):
    """A page of a browser that runs for as long as this lasts, with its profile in a folder."""
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()
    words = [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}"]
    piped = ["bash", "-c", f'exec "$0" "$@" 3<&{to_browser} 4>&{to_us}', *words]
    with subprocess.Popen(piped, pass_fds=(to_browser, to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        os.close(to_browser)
        os.close(to_us)
        try:
            yield BrowserPage(lambda message: os.write(from_us, json.dumps(message).encode() + b"\0"), _reader(from_browser))
        finally:
            os.close(from_us)
            os.close(from_browser)
            process.kill()


def _reader(pipe):
    """What returns the browser's next message."""
    waiting = bytearray()

    def receive():
        end = time.monotonic() + TIMEOUT
        while b"\0" not in waiting:
            ready, _, _ = select.select([pipe], [], [], max(0, end - time.monotonic()))
            assert ready, f"the browser said nothing for {TIMEOUT:g} s"
            more = os.read(pipe, 1 << 20)
            assert more, "the browser has ended"
            waiting.extend(more)
        message, _, rest = bytes(waiting).partition(b"\0")
        waiting[:] = rest
        return json.loads(message)

    return receive
