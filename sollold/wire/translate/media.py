"""Images and sound inside messages, as content parts of OpenAI's API."""

from __future__ import annotations

import binascii
from typing import Any, Final

from sollold.wire.translate.seam import Engine, Stage, Unsupported
from sollold.wire.translate.wants import full_name, lacks

WEBP_TEXT: Final = "WebP images are not supported by the node of this model; send PNG or JPEG"

# Enough base64 for the longest signature, in whole groups.
_HEAD_CHARS: Final = 16
_IMAGES: Final = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
)
_SYNC: Final = 0xE0


def media_part(data: str, engine: Engine, model: str) -> dict[str, Any]:
    """Return the content part for sound base64 data; raise `Unsupported`."""
    head = binascii.a2b_base64(data[:_HEAD_CHARS])
    sound = _audio_format(head)
    needed = "audio" if sound else "vision"
    if lacks(engine, needed):
        text = f"{full_name(model)} does not support {needed}"
        raise Unsupported(400, text, Stage.GENERATING)
    if sound:
        return {"type": "input_audio", "input_audio": {"data": data, "format": sound}}
    image = _image_format(head)
    if image == "webp" and engine.is_llama:
        raise Unsupported(400, WEBP_TEXT, Stage.GENERATING)
    return {"type": "image_url", "image_url": {"url": f"data:image/{image};base64,{data}"}}


def _audio_format(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "wav"
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] and head[1] & _SYNC == _SYNC):
        return "mp3"
    return ""


def _image_format(head: bytes) -> str:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    # Ollama takes what it does not know for JPEG, too; the engine has the last word.
    return next((name for signature, name in _IMAGES if head.startswith(signature)), "jpeg")
