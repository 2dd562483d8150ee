"""The one door to lxml, which parses, and rewrites small documents; and the escaping of all that is written.

Parsing refuses document types, so there are no entities to expand and nothing to fetch. Names are
compared without their namespace: clients send S3's, an older one, or none.

Writing is by escaped strings: 1,000 rows of a listing take a tenth of what lxml needs.
"""

from __future__ import annotations

import re

from lxml import etree

from s3lite.errors import Code, S3Error

Element = etree._Element

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

MAX_DEPTH = 16  # the deepest document of S3, lifecycle configuration, has 6 levels

_TOO_DEEP = etree.XPath("boolean(" + "/*" * (MAX_DEPTH + 1) + ")")
_INTEGER = re.compile("-?[0-9]{1,18}")
_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


# ---------------------------------------------------------------- reading


def parse(data: bytes, root: str | tuple[str, ...] | None) -> Element:
    """The root element of a document whose root is named ``root``, or one of them; None takes any.

    Raises MissingRequestBodyError (empty) and MalformedXML (not well formed, another root, a document
    type, too deep).
    """
    if not data.strip():
        raise S3Error(Code.MissingRequestBodyError)
    # A parser of its own for each document: shared ones are serialised between threads.
    parser = etree.XMLParser(
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,  # or the text of <Key>a<!-- -->b</Key> would end at the comment
        remove_pis=True,
    )
    try:
        element = etree.fromstring(data, parser)
    except (etree.LxmlError, LookupError, ValueError) as error:
        raise malformed(str(error)) from None
    if element.getroottree().docinfo.internalDTD is not None:
        raise malformed("a document type is not allowed")
    names = (root,) if isinstance(root, str) else root
    if names is not None and local_name(element) not in names:
        raise malformed(f"the root element must be {' or '.join(names)}")
    if _TOO_DEEP(element):
        raise malformed(f"elements are nested deeper than {MAX_DEPTH}")
    return element


def malformed(reason: str) -> S3Error:
    """MalformedXML with S3's message and the reason."""
    return S3Error(Code.MalformedXML, f"{Code.MalformedXML.message} ({reason[:200]})")


def local_name(element: Element) -> str:
    """Name without namespace."""
    return str(element.tag).rpartition("}")[2]


def children(element: Element, name: str) -> list[Element]:
    """Children named ``name``, in order."""
    return list(element.iterchildren(f"{{*}}{name}"))


def child(element: Element, name: str) -> Element | None:
    """First child named ``name``."""
    return next(element.iterchildren(f"{{*}}{name}"), None)


def text(element: Element, name: str, default: str = "") -> str:
    """Text of the first child named ``name``, as it is. Raises MalformedXML when that holds elements."""
    found = child(element, name)
    return default if found is None else text_of(found)


def fields(element: Element) -> dict[str, str]:
    """Texts of all children by name, the first of repeated names: for the rows of long documents.

    Raises MalformedXML when one holds elements.
    """
    found: dict[str, str] = {}
    for item in element:
        tag = str(item.tag)
        found.setdefault(tag[tag.rfind("}") + 1 :], text_of(item))
    return found


def text_of(element: Element) -> str:
    """Its text, as it is. Raises MalformedXML when it holds elements."""
    if len(element):
        raise malformed(f"{local_name(element)} must hold text only")
    return element.text or ""


def integer(written: str) -> int | None:
    """A whole number in plain digits, perhaps with a minus; None for the rest of what `int` takes."""
    return int(written) if _INTEGER.fullmatch(written) else None


# ---------------------------------------------------------------- writing

_REPLACEMENTS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;"}
_NEEDS_ESCAPE = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]')


_NOT_EXPRESSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def is_expressible(value: str) -> bool:
    """True for text that an XML 1.0 document can hold."""
    return _NOT_EXPRESSIBLE.search(value) is None


def escape(value: str) -> str:
    """Text as element content.

    Characters that XML 1.0 cannot hold become U+FFFD: a reference to them (AWS writes ``&#x1;``) is not
    well formed either, and parsers refuse the whole page. Clients that have such keys list them with
    encoding-type=url.
    """
    return _NEEDS_ESCAPE.sub(_replacement, value)


def _replacement(match: re.Match[str]) -> str:
    return _REPLACEMENTS.get(match[0], "\ufffd")


def without_namespace(root: Element) -> None:
    """Rename every element of a document to its name without namespace."""
    for found in root.iter():
        found.tag = local_name(found)
    etree.cleanup_namespaces(root)


def append(parent: Element, name: str, value: str) -> None:
    """Add a child with a text that XML can hold."""
    etree.SubElement(parent, name).text = value


def indented(data: bytes) -> str:
    """A document as people read it: indented, without namespace and declaration. Raises as `parse`."""
    root = parse(data, None)
    without_namespace(root)
    etree.indent(root)
    return etree.tostring(root, encoding="unicode")


def serialise(root: Element) -> bytes:
    """A parsed document as bytes, with a declaration."""
    return _DECLARATION.encode() + etree.tostring(root, encoding="utf-8")


def element(name: str, value: str) -> str:
    """``<name>value</name>``, the value escaped."""
    return f"<{name}>{escape(value)}</{name}>"


def document(root: str, body: str, *, namespaced: bool = True) -> bytes:
    """A whole document out of its root's name and its content, which is escaped already."""
    opening = f'{root} xmlns="{NAMESPACE}"' if namespaced else root
    return f"{_DECLARATION}<{opening}>{body}</{root}>".encode()
