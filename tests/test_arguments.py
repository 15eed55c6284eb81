"""Arguments of a wrong type are refused in a sentence that says what they must be."""

import pytest

import hensa

PROGRAM = hensa.Program.load("hapitas-friend")
ROWS = {"new_referrals": [1, 2], "ad_users": [1, 2], "friend_points": [1, 2]}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hensa.score(ROWS, "hapitas-friend"), "program is 'hapitas-friend'; it must be a hensa.Program"),
        (lambda: hensa.score(ROWS, PROGRAM, {"count": 3}), "population is {'count': 3}; it must be a hensa.Population"),
        (lambda: hensa.population(ROWS, 3), "program is 3; it must be a hensa.Program"),
        (lambda: hensa.Program.parse(3), "found 3; allowed: the text of a program in TOML"),
        (lambda: hensa.compare(ROWS, PROGRAM), "it must be a list of programs, names or paths"),
        (lambda: hensa.compare(ROWS, "hapi-tomo"), "programs is 'hapi-tomo'; it must be a list"),
        (lambda: hensa.sample("a"), "n is 'a', where a whole number from 0 on is allowed"),
        (lambda: hensa.score_dataset(".", "x", PROGRAM, memory="1 GB"), "memory is '1 GB'; it must be a whole number"),
    ],
)
def test_an_argument_of_a_wrong_type_is_refused(call, message):
    with pytest.raises(hensa.HensaError) as refused:
        call()
    assert message in str(refused.value)


def test_every_public_name_is_found_by_completion():
    assert set(hensa.__all__) <= set(dir(hensa))
