"""Templates: one file, three texts, and values that stay data."""

from __future__ import annotations

import re
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.actions.template import Template
from trivet.errors import ActionError

LETTER = """Subject: {{ name }}, an offer

# Dear {{ name }}

Take **{{ share }} %** off: [here](https://example.com/{{ code }}).
"""
ODD = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "a\r\nBcc: everyone@example.com",
        "[click](https://evil.example)",
        "<script>alert(1)</script>",
        "![x](https://evil.example/x.png)",
        "{{ 7 * 7 }}",
        "https://evil.example",
        "a\n\n# Headline",
        "\u2028\x85\x0b",
    ]
)


def test_one_file_gives_subject_text_and_html() -> None:
    words = Template(LETTER, "t").render({"name": "Ada", "share": 20, "code": "x_1-2"})
    assert words.subject == "Ada, an offer"
    assert words.text.startswith("# Dear Ada\n\nTake **20 %** off")
    assert words.html == (
        "<h1>Dear Ada</h1>\n"
        '<p>Take <strong>20 %</strong> off: <a href="https://example.com/x_1-2">here</a>.</p>\n'
    )


@given(ODD)
def test_a_value_is_data_wherever_it_is_put(value: str) -> None:
    words = Template(LETTER, "t").render({"name": value, "share": 20, "code": "c"})
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", words.subject)
    tags = re.findall(r"<(/?\w+)", words.html)
    assert tags == ["h1", "/h1", "p", "strong", "/strong", "a", "/a", "/p"]
    assert words.html.count("href=") == 1
    assert "49" not in words.html or "49" in value


def test_raw_html_of_the_template_stays_text() -> None:
    words = Template("Subject: s\n\n<b>x</b>", "t").render({})
    assert words.html == "<p>&lt;b&gt;x&lt;/b&gt;</p>\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Dear {{ name }}", "its first line is no subject"),
        ("Subject:\n\nDear", "its first line is no subject"),
        ("Subject: a\n\n{% if %}", "correct the template"),
    ],
)
def test_a_template_that_cannot_be_read_says_so(text: str, words: str) -> None:
    with pytest.raises(ActionError, match=f"offer.md: .*{words}"):
        Template(text, "offer.md")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ surname }}", "'surname' is undefined; there are name"),
        ("{{ name.__class__.__mro__ }}", "unsafe"),
        ("{{ name + 1 }}", "TypeError while it was filled in"),
        ("{% include 'x' %}", "filled in|loader"),
    ],
)
def test_a_template_that_cannot_be_filled_in_says_so_without_the_values(
    text: str, words: str
) -> None:
    template = Template(f"Subject: a\n\n{text}", "offer.md")
    with pytest.raises(ActionError, match=words) as caught:
        template.render({"name": "Ada Lovelace"})
    assert "Ada" not in str(caught.value)


def test_email_takes_any_subject_that_comes_out() -> None:
    words = Template(LETTER, "t").render({"name": "é\r\nBcc: x", "share": 1, "code": "c"})
    from email.message import EmailMessage

    mail = EmailMessage(policy.SMTP)
    mail["Subject"] = words.subject
    read = message_from_bytes(mail.as_bytes(), policy=policy.SMTP)
    assert read["Subject"] == "é Bcc: x, an offer"
    assert "Bcc" not in read
