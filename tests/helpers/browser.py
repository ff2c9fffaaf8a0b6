"""What a person does on the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WAIT = 60
"""Seconds, on a busy machine."""

_DROP = """
const [slot, name, text] = arguments, data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
const event = { dataTransfer: data, bubbles: true, cancelable: true };
slot.dispatchEvent(new DragEvent("drop", event));
"""


class Page:
    """The page in a browser."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, name: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#/{name}")
        self.one(f"main[data-ready={name.split('/')[0]}]")

    def wait(self, what: Any) -> Any:
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        waiting = WebDriverWait(self.driver, WAIT, 0.05, (StaleElementReferenceException,))
        return waiting.until(lambda _: what())

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.wait(lambda: next(iter(self.all(selector)), None))

    def button(self, words: str) -> Any:
        """The visible one that begins so, once it can be pressed."""

        def found() -> Any:
            for each in self.all("button, summary"):
                if each.text.startswith(words) and each.is_displayed() and each.is_enabled():
                    return each
            return None

        return self.wait(found)

    def press(self, words: str) -> None:
        button = self.button(words)
        self.centre(button)
        button.click()

    def centre(self, element: Any) -> None:
        """Scroll to an element: the mouse goes by the middle of the part of it that is seen."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)

    def choose(self, name: str, value: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.one(f"select[name={name}]")).select_by_value(value)

    def pick(self, name: str, words: str) -> None:
        """Choose by what a choice says."""
        from selenium.webdriver.support.ui import Select

        self.wait(lambda: words in self.one(f"select[name={name}]").text)
        Select(self.one(f"select[name={name}]")).select_by_visible_text(words)

    def give(self, slot: int, path: Path) -> None:
        """As by the file dialog."""
        self.all(".slot input[type=file]")[slot].send_keys(str(path))
        self.shown(slot, path)

    def shown(self, slot: int, path: Path) -> None:
        """Wait until a slot shows a picture."""
        script = "const i = arguments[0].querySelector('img'); return i && i.naturalWidth > 0"
        self.wait(lambda: self.driver.execute_script(script, self.all(".slot")[slot]))
        assert path.name in self.all(".slot")[slot].text

    def drop(self, slot: int, path: Path) -> None:
        """As from the desktop: a drop event with the file's bytes."""
        import base64

        given = base64.b64encode(path.read_bytes()).decode()
        self.driver.execute_script(_DROP, self.all(".slot")[slot], path.name, given)
        self.shown(slot, path)

    def complaints(self) -> list[str]:
        """What the browser's console holds."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        script = (
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        return bool(self.driver.execute_script(script))
