import io

from rich.console import Console

from ecgscale.study.display import Display


def told(every: float, updates: int) -> list[str]:
    text = io.StringIO()
    with Display(Console(file=text, width=40), 10.0, every) as display:
        for i in range(updates):
            display.update(10.0 * (i + 1) / updates, f"{i // 100}/10")
    return text.getvalue().splitlines()


def test_outside_a_terminal_only_the_end_is_told_within_a_minute() -> None:
    lines = told(60.0, 1000)
    assert len(lines) == 1
    assert lines[0].startswith("runs 9/10, 100% of the work")


def test_outside_a_terminal_a_line_comes_when_it_is_due() -> None:
    lines = told(0.0, 4)
    assert [line.split(", ")[1] for line in lines[:4]] == [f"{p}% of the work" for p in (25, 50, 75, 100)]
    assert all("min left" in line for line in lines)


def test_a_terminal_shows_the_bar_and_the_time_left() -> None:
    text = io.StringIO()
    with Display(Console(file=text, force_terminal=True, width=100), 10.0) as display:
        display.update(5.0, "1/4")
        display.bar.refresh()
    assert "runs 1/4" in text.getvalue()
    assert "50%" in text.getvalue()
    assert "min left" in text.getvalue()


def test_nothing_done_yet_has_no_time_left() -> None:
    text = io.StringIO()
    with Display(Console(file=text, width=100), 0.0, every=0.0) as display:
        display.update(0.0, "0/0")
    assert "left" not in text.getvalue()
    assert "runs 0/0, 0% of the work" in text.getvalue()
