"""What exchanges are called in Yahoo's metadata, and the calendars they trade on."""

from __future__ import annotations

from collections.abc import Mapping

# By calendar. A wrong calendar would place forecasts
# on days without trade and nobody would notice, so what is not listed is refused, not guessed.
_CODES = {
    "ASEX": "ATH",
    "BVMF": "SAO",
    "XAMS": "AMS",
    "XASX": "ASX",
    "XBKK": "SET",
    "XBOM": "BSE NSI",
    "XBRU": "BRU",
    "XBUD": "BUD",
    "XCSE": "CPH",
    "XDUB": "ISE",
    "XETR": "GER",
    "XFRA": "FRA",
    "XHEL": "HEL",
    "XHKG": "HKG",
    "XIDX": "JKT",
    "XIST": "IST",
    "XJSE": "JNB",
    "XKLS": "KLS",
    "XKRX": "KSC KOE",
    "XLIS": "LIS",
    "XLON": "LSE IOB FGI",
    "XMAD": "MCE",
    "XMEX": "MEX",
    "XMIL": "MIL",
    "XNYS": "NMS NGM NCM NAS NIM NYQ PCX ASE BTS PNK OQB OQX SNP DJI CXI WCB",
    "XNZE": "NZE",
    "XOSL": "OSL",
    "XPAR": "PAR",
    "XPRA": "PRA",
    "XSES": "SES",
    "XSHG": "SHH SHZ",
    "XSTO": "STO",
    "XSWX": "EBS",
    "XTAE": "TLV",
    "XTAI": "TAI TWO",
    "XTKS": "JPX OSA",
    "XTSE": "TOR VAN NEO CNQ",
    "XWAR": "WSE",
    "XWBO": "VIE",
}
EXCHANGES: Mapping[str, str] = {code: calendar for calendar, codes in _CODES.items() for code in codes.split()}
"""Calendar of every exchange code of Yahoo's that is known here."""
