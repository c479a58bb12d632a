"""The languages that the scenes speak."""

from __future__ import annotations

from featx.scenes.english import ENGLISH
from featx.scenes.french import FRENCH
from featx.scenes.german import GERMAN
from featx.scenes.spanish import SPANISH

LANGUAGES = {language.code: language for language in (ENGLISH, FRENCH, GERMAN, SPANISH)}
