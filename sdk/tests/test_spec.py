"""`holdfast.spec` against itself, the JSON Schema, and hostile input."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest

from holdfast import histogram, spec
from holdfast.spec.__main__ import main as print_tables

ROWS = [row for pattern in spec.PATTERNS.values() for row in pattern.settings.values()]
ALL_ROWS = [*ROWS, *(member for row in ROWS for member in row.members)]
NUMBERS = [row for row in ALL_ROWS if row.type in ("int", "seconds", "share", "number")]
each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)


def clean(row: spec.Setting, value: Any) -> tuple[Any, list[str]]:
    cleaned, problems = spec.clean_pattern(row.pattern, {row.key: value})
    return cleaned.get(row.key), [problem.code for problem in problems]


def document(**dependency: Any) -> dict[str, Any]:
    meta = {"schema": 1, "epoch": "e", "revision": 1}
    return {"meta": meta, "flags": {}, "dependencies": {"api": dependency}}


class TestTable:
    def test_it_has_every_pattern_of_the_product(self) -> None:
        assert list(spec.PATTERNS) == [
            "breaker", "retry", "timeout", "bulkhead", "rate_limit", "fallback", "recovery",
            "dead_letter", "hedge", "throttle",
        ]  # fmt: skip

    @pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.path)
    def test_numbers_have_bounds_that_hold_their_default(self, row: spec.Setting) -> None:
        assert row.minimum is not None
        assert row.maximum is not None
        assert row.minimum <= row.default <= row.maximum

    @each_row
    def test_defaults_are_valid(self, row: spec.Setting) -> None:
        assert clean(row, row.default) == (row.default, [])

    @each_row
    def test_off_is_valid(self, row: spec.Setting) -> None:
        off = row.default if row.off is None else row.off

        assert clean(row, off) == (off, [])

    @pytest.mark.parametrize("row", ALL_ROWS, ids=lambda row: row.path)
    def test_help_is_a_sentence(self, row: spec.Setting) -> None:
        assert row.help[0].isupper()
        assert row.help.endswith(".")

    def test_defaults_are_copies(self) -> None:
        spec.default_of("breaker")["trip_on"].append("critical")

        assert spec.default_of("breaker")["trip_on"] == []

    def test_a_setting_is_found_by_its_full_name(self) -> None:
        assert spec.setting("breaker.open_seconds").default == 30.0
        assert spec.setting("breaker.open_seconds").path == "breaker.open_seconds"
        with pytest.raises(KeyError):
            spec.setting("breaker.nothing")

    def test_names_of_the_requirements_lead_to_their_setting(self) -> None:
        named = {alias: row.path for row in ROWS for alias in row.aliases}

        assert named["success_threshold"] == "breaker.half_open_successes"
        assert named["resetTimeoutMs"] == "breaker.open_seconds"
        assert {path for path, _ in spec.ENVIRONMENT_VARIABLES.values()} <= {
            row.path for row in ROWS
        }


class TestPrinted:
    def test_a_pattern_is_printed_with_units_bounds_and_off(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert print_tables(["retry"]) == 0

        printed = capsys.readouterr().out
        assert "| `attempts` | attempts | `3` | 1 to 20 | `1` | Attempts in total" in printed
        assert "| `per_class.*.attempts` | attempts | inherited |" in printed
        assert "consecutive_failures" not in printed

    def test_without_a_name_every_pattern_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_tables([])

        printed = capsys.readouterr().out
        assert all(f"`{row.key}`" in printed for row in ROWS)

    def test_a_large_bound_is_written_out(self) -> None:
        assert spec.setting("rate_limit.calls").bounds == "1 to 2,147,483,647 calls"

    def test_a_name_that_is_none_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            print_tables(["galaxy"])

        assert "there is no pattern galaxy; there are breaker, retry" in capsys.readouterr().err


HOSTILE = [
    None, True, -1, 10**400, -(10**400), 1e308, float("nan"), float("inf"), "", "0", "\0",
    "x" * 10**6, [], [[]], [None], {}, {"a": 1}, {1: 2}, [{}] * 1_000, b"bytes", object(),
]  # fmt: skip


class TestHostileInput:
    @each_row
    def test_anything_may_come_and_the_result_is_a_value_or_a_problem(
        self, row: spec.Setting
    ) -> None:
        for value in HOSTILE:
            cleaned, problems = clean(row, value)

            assert (cleaned is None) == bool(problems), value

    @each_row
    def test_problems_never_repeat_the_value(self, row: spec.Setting) -> None:
        _, problems = spec.clean_pattern(row.pattern, {row.key: "hf_secret"})

        assert all("hf_secret" not in problem.detail for problem in problems)

    def test_unknown_names_may_be_anything(self) -> None:
        hostile: dict[Any, Any] = {1: 1, "x" * 10**6: 1, "\0": 1}

        _, problems = spec.clean_pattern("breaker", hostile)

        assert [problem.code for problem in problems] == ["unknown_setting"] * 3

    @pytest.mark.parametrize("depth", [31, 100_000])
    def test_depth_of_values_is_limited_without_recursion(self, depth: int) -> None:
        value: Any = 1
        for _ in range(depth):
            value = [value]

        _, problems = spec.clean_pattern("fallback", {"chain": [{"kind": "value", "value": value}]})

        assert bool(problems) is (depth > 32)

    def test_a_problem_knows_its_field(self) -> None:
        _, problems = spec.clean_pattern("fallback", {"chain": [{"kind": "guess"}]})

        assert [(each.pattern, each.key) for each in problems] == [("fallback", "chain")]

    @pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
    def test_flags_and_overrides_survive_anything(self, value: Any) -> None:
        members = ("kind", "scope", "dependencies", "enabled", "value", "percentage", "reason",
                   "set_by", "expires_at", "on_stale", "mode")  # fmt: skip
        entry = dict.fromkeys(members, value)

        assert spec.clean_flag(entry)[1]
        assert spec.clean_override(entry)[1]


class TestJsonSchema:
    validator = jsonschema.Draft202012Validator(spec.json_schema())

    def test_it_is_a_schema(self) -> None:
        jsonschema.Draft202012Validator.check_schema(spec.json_schema())

    def test_defaults_and_presets_conform(self) -> None:
        policies: list[Any] = [{pattern: spec.default_of(pattern) for pattern in spec.PATTERNS}]
        policies += [preset.settings for preset in spec.PRESETS.values()]

        for policy in policies:
            self.validator.validate(document(**policy))

    @pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
    def test_it_agrees_with_the_code(self, row: spec.Setting) -> None:
        values: list[Any] = [
            None,
            True,
            0,
            1,
            -1,
            0.5,
            10**9,
            "x",
            [],
            ["critical"],
            {},
            [{}],
            *row.choices,
        ]

        for value in values:
            by_code = not clean(row, value)[1]
            by_schema = self.validator.is_valid(document(**{row.pattern: {row.key: value}}))
            assert by_code == by_schema, value

    def test_units_and_help_are_in_it(self) -> None:
        dependency = spec.json_schema()["properties"]["dependencies"]["additionalProperties"]
        row = dependency["properties"]["breaker"]["properties"]["open_seconds"]

        assert (row["x-unit"], row["minimum"], row["maximum"]) == ("s", 0.1, 86_400.0)
        assert "rejected" in row["description"]


class TestPresets:
    @pytest.mark.parametrize("preset", spec.PRESETS.values(), ids=lambda preset: preset.key)
    def test_settings_are_valid_as_they_stand(self, preset: spec.Preset) -> None:
        for pattern, values in preset.settings.items():
            assert spec.clean_pattern(pattern, values) == (values, ())
        assert spec.check_effective(preset.settings) == []
        assert preset.check.kind in spec.CHECK_KINDS

    def test_figures_of_the_requirements(self) -> None:
        ml = spec.PRESETS["ml-service"].settings

        assert ml["breaker"] == {
            "consecutive_failures": 5,
            "half_open_successes": 2,
            "open_seconds": 60.0,
        }
        assert ml["timeout"] == {"attempt_seconds": 60.0}
        assert spec.PRESETS["postgres"].check.write_probe
        assert len(spec.PRESETS) == 10


class TestLocalDefaults:
    def test_milliseconds_become_seconds(self) -> None:
        policy, problems = spec.local_defaults(
            {"CB_TIMEOUT_THRESHOLD": "2500", "RETRY_BASE_DELAY": "50", "RETRY_MAX_DELAY": "1000"}
        )

        assert policy == {
            "timeout": {"attempt_seconds": 2.5},
            "retry": {"base_seconds": 0.05, "max_seconds": 1.0},
        }
        assert problems == ()

    @pytest.mark.parametrize("text", ["", "many", "nan", "inf", "-1", "1e999", "9" * 5_000])
    def test_nonsense_is_left_out_and_named(self, text: str) -> None:
        policy, problems = spec.local_defaults({"CB_RESET_TIMEOUT": text})

        assert policy == {}
        assert [problem.path for problem in problems] == ["CB_RESET_TIMEOUT"]


class TestHistogram:
    def test_reading_back_is_at_most_4_8_percent_off(self) -> None:
        durations = [0.0001 * 1.01**step for step in range(1_388)]

        errors = [
            abs((histogram.quantile({histogram.index_of(each): 1}, 0.5) or 0) / each - 1)
            for each in durations
        ]

        assert max(errors) <= 0.0481

    def test_encoding_is_sparse_and_comes_back(self) -> None:
        counts = [0] * histogram.SIZE
        counts[3], counts[157] = 2, 1

        assert histogram.encode(counts) == {"3": 2, "157": 1}
        assert histogram.decode(histogram.encode(counts)) == {3: 2, 157: 1}

    @pytest.mark.parametrize(
        "sparse",
        [{"158": 1}, {"-1": 1}, {"x": 1}, {"1": -1}, {"1": True}, {"1": 2**60}, {"1": 1.5},
         {"²": 1}],
    )  # fmt: skip
    def test_impossible_histograms_are_refused(self, sparse: Any) -> None:
        with pytest.raises(ValueError, match="a bucket"):
            histogram.decode(sparse)

    def test_merging_adds_up(self) -> None:
        into = {"1": 1}

        histogram.merge(into, {"1": 2, "5": 1}, {"5": 4})

        assert into == {"1": 3, "5": 5}
        assert histogram.total(into) == 8
        assert histogram.quantiles(into, [0, 1]) == [
            histogram.middle(1),
            histogram.middle(5),
        ]

    def test_a_share_outside_0_to_1_is_refused(self) -> None:
        with pytest.raises(ValueError, match="q"):
            histogram.quantile({"1": 1}, 1.1)


class TestImport:
    def test_the_spec_imports_no_http_client_and_starts_nothing(self) -> None:
        program = (
            "import sys, threading, holdfast.spec, holdfast.histogram, holdfast\n"
            "heavy = {'httpx', 'msgspec', 'asyncio', 'django'} & set(sys.modules)\n"
            "print(sorted(heavy), threading.active_count())\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
        )

        assert done.stdout.strip() == "[] 1"
