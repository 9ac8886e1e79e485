"""First stage: bytes in, event out. Pure; never raises, whatever it is given.

Unreadable input is returned as :class:`~logmend.model.values.Undecodable`, with a reason and a detail that
never quotes the payload:

``malformed``
    not base64, UTF-8 or JSON, nested too deeply, or a known field of the wrong type
``no_data``
    a Pub/Sub message without data, an empty file
``too_large``
    a request over ``MAX_BODY`` or a payload over ``MAX_ENTRY``
``not_an_event``
    JSON that is not a LogEntry, incident or tick; a CloudEvent of another type

Unknown fields in Google's documents are ignored. Our own document, the tick, is read strictly.
"""

from logmend.stages.decode.documents import document
from logmend.stages.decode.envelope import MAX_BODY, request
from logmend.stages.decode.files import any_shape, entries
from logmend.stages.decode.lines import MESSAGE_FIELDS
from logmend.stages.decode.payload import MAX_ENTRY

__all__ = ["MAX_BODY", "MAX_ENTRY", "MESSAGE_FIELDS", "any_shape", "document", "entries", "request"]
