"""Languages, and the codes by which mBART-50 names them."""

from __future__ import annotations

from featx.errors import UsageError

# In the order of its vocabulary (transformers, tokenization_mbart50).
_CODES = [
    "ar_AR", "cs_CZ", "de_DE", "en_XX", "es_XX", "et_EE", "fi_FI", "fr_XX", "gu_IN", "hi_IN", "it_IT", "ja_XX",
    "kk_KZ", "ko_KR", "lt_LT", "lv_LV", "my_MM", "ne_NP", "nl_XX", "ro_RO", "ru_RU", "si_LK", "tr_TR", "vi_VN",
    "zh_CN", "af_ZA", "az_AZ", "bn_IN", "fa_IR", "he_IL", "hr_HR", "id_ID", "ka_GE", "km_KH", "mk_MK", "ml_IN",
    "mn_MN", "mr_IN", "pl_PL", "ps_AF", "pt_XX", "sv_SE", "sw_KE", "ta_IN", "te_IN", "th_TH", "tl_XX", "uk_UA",
    "ur_PK", "xh_ZA", "gl_ES", "sl_SI",
]  # fmt: skip
CODES = {code[:2]: code for code in _CODES}  # en -> en_XX
PUBLISHED = ("en", "fr", "de", "es")  # of the captioning model


def language_of(name: str) -> str:
    """``en`` of ``en`` or ``en_XX``. Raises UsageError for a language that mBART-50 has no code for."""
    short = name[:2]
    if name not in (short, CODES.get(short)) or short not in CODES:
        raise UsageError(f"there is no language {name!r}", f"known are {', '.join(sorted(CODES))}, or codes as en_XX")
    return short
