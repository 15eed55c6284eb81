"""The shell of a page: one HTML file that needs nothing else, light and dark, in English and Japanese."""

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import hensa
from hensa.errors import HensaError

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["LANGS", "Lang", "data_island", "render"]

Lang: TypeAlias = Literal["en", "ja"]
LANGS: tuple[Lang, ...] = ("en", "ja")

_PAGES = Path(__file__).parent / "pages"

_WORDS: dict[Lang, dict[str, str]] = {
    "en": {
        "skip": "Skip to the content",
        "made_by": "Made by hensa {version}. This page loads nothing and sends nothing.",
    },
    "ja": {"skip": "本文へ移動", "made_by": "hensa {version} で作成。このページは外部と一切通信しません。"},
}


def render(template: str, lang: Lang, title: str, scripts: Sequence[str] = (), **context: Any) -> str:
    """A page as HTML text; the same for the same arguments.

    Parameters
    ----------
    template : str
        A file of `hensa/pages` that extends ``base.html``. Whatever it shows is escaped, unless it is Markup.
    lang : {"en", "ja"}
        The language of the page.
    title : str
        Of the document.
    scripts : sequence of str
        Scripts, run in this order when the page is there. The page allows no others, by their hashes, and no requests.
    **context
        What the template reads.

    Returns
    -------
    str

    Raises
    ------
    HensaError
        The extra "report" is not installed.

    Examples
    --------
    >>> "<title>Rates &lt; 10%</title>" in render("base.html", "en", "Rates < 10%")
    True
    """
    environment = _environment()
    from markupsafe import Markup

    words = {name: text.format(version=hensa.__version__) for name, text in _WORDS[lang].items()}
    hashes = " ".join(f"'sha256-{_sha256(script)}'" for script in scripts) or "'none'"
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {hashes}"
    shell = {"words": words, "policy": policy, "css": Markup(_css()), "scripts": [Markup(script) for script in scripts]}
    return environment.get_template(template).render(lang=lang, title=title, shell=shell, **context)


def data_island(id: str, value: Any) -> "Markup":
    """JSON that scripts of the page read: ``JSON.parse(document.getElementById(id).textContent)``.

    Examples
    --------
    >>> print(data_island("bounds", ["x < 1", 2]))
    <script type="application/json" id="bounds">["x \\u003c 1",2]</script>
    """
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup('<script type="application/json" id="{}">{}</script>').format(id, Markup(text))


@cache
def _environment() -> "Environment":
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ModuleNotFoundError as missing:
        raise HensaError(f'a page needs {missing.name}; install it with: pip install "hensa[report]"') from missing
    return Environment(
        loader=FileSystemLoader(_PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _css() -> str:
    return (_PAGES / "page.css").read_text(encoding="utf-8")


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
