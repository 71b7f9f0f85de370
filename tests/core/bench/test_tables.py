"""The tables of speed can be written from the results that are there."""

from benchmarks import tables


def test_every_table_has_a_head_and_rows_of_its_width():
    for name, make in tables.TABLES.items():
        head, *rows = make()
        assert all(len(row) == len(head) for row in rows), name


def test_every_marker_of_a_page_names_a_table():
    pages = "".join(page.read_text() for page in tables.PAGES)
    names = {part.split(" -->")[0] for part in pages.split("<!-- table ")[1:]}
    assert names == set(tables.TABLES)
    assert pages.count("<!-- table ") == pages.count("<!-- end -->")


def test_seconds_are_written_with_the_unit_that_suits():
    assert [tables.seconds(x) for x in (12.345, 0.0521, 0.00005)] == ["12.35 s", "52.1 ms", "50 us"]
