"""Made texts: Chinese and English documents from a word list with Zipf's frequencies, and copies of them with edits."""

from __future__ import annotations

import random

MARKS = "，。、；？！"


def chinese(num: int, seed: int = 0) -> list[str]:
    """Different documents of 50 to 120 characters, from 4,000 words of two characters."""
    generator = random.Random(seed)
    characters = [chr(0x4E00 + 7 * place) for place in range(2000)]
    words = ["".join(generator.choices(characters, k=2)) for _ in range(4000)]
    return [_document(words, generator, generator.randint(25, 60), "", MARKS) for _ in range(num)]


def english(num: int, seed: int = 0, num_words: int = 45) -> list[str]:
    """Different documents of `num_words` words, from a list of 4,000."""
    generator = random.Random(seed)
    letters = "etaoinshrdlucmfwygpb"
    words = ["".join(generator.choices(letters, k=generator.randint(2, 8))) for _ in range(4000)]
    return [_document(words, generator, num_words, " ", ",.;!") for _ in range(num)]


def edited(text: str, rate: float, generator: random.Random) -> str:
    """Insert, delete, swap, or put a mark instead: as many edits as `rate` of the characters."""
    characters = list(text)
    for _ in range(max(1, round(rate * len(text)))):
        place = generator.randrange(len(characters) - 1)
        edit = generator.randrange(4)
        if edit == 0:
            characters.insert(place, generator.choice(text))
        elif edit == 1:
            del characters[place]
        elif edit == 2:
            characters[place : place + 2] = characters[place : place + 2][::-1]
        else:
            characters[place] = generator.choice(MARKS)
    return "".join(characters)


def _document(words: list[str], generator: random.Random, num_words: int, space: str, marks: str) -> str:
    weights = _cumulative(len(words))
    chosen = generator.choices(words, cum_weights=weights, k=num_words)
    return space.join(word + generator.choice(marks) if place % 6 == 5 else word for place, word in enumerate(chosen))


def _cumulative(num: int) -> list[float]:
    if num not in _WEIGHTS:
        total, sums = 0.0, []
        for rank in range(num):
            total += 1 / (rank + 10)
            sums.append(total)
        _WEIGHTS[num] = sums
    return _WEIGHTS[num]


_WEIGHTS: dict[int, list[float]] = {}
