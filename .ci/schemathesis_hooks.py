"""Few names and one password: else no two requests would ever be about the same user, store or book."""

import schemathesis

PASSWORD = "pa55word"
NAMES = {"user_id": "user", "store_id": "store", "book_id": "book", "id": "book"}


def is_sound(value, longest):
    return isinstance(value, str) and 1 <= len(value.encode("utf-8", "replace")) <= longest and value.isprintable()


def with_few_names(fields):
    # What is wrong stays wrong, and some of what is right stays as it is.
    for name, stem in NAMES.items():
        value = fields.get(name)
        if is_sound(value, 256) and len(value) % 5:
            fields[name] = f"{stem}{len(value) % 2}"
    for name in ("password", "oldPassword", "newPassword"):
        if is_sound(fields.get(name), 1024):
            fields[name] = PASSWORD
    for inner in [fields.get("book_info"), *(fields.get("books") if isinstance(fields.get("books"), list) else [])]:
        if isinstance(inner, dict):
            with_few_names(inner)


@schemathesis.hook
def map_body(context, body):
    if isinstance(body, dict):
        with_few_names(body)
    return body
