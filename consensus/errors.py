"""The stable codes of everything that can be wrong, and the exceptions that carry them.

    ConsensusError
    ├── RuleViolation   invalid: condemns a block id (or a transfer, task, parameter set) for ever
    ├── BadDelivery     condemns what was sent and its sender, never the id
    ├── NotYet          cannot be judged now; may come back
    └── Duplicate       already verified here; nobody is punished

A code belongs to exactly one outcome, so the outcome follows from the code.
"""

from __future__ import annotations

from enum import Enum, StrEnum


class Outcome(StrEnum):
    """What a failed check means for the id and for the sender (protocol §10)."""

    INVALID = "invalid"
    BAD_DELIVERY = "bad-delivery"
    NOT_YET = "not-yet"
    DUPLICATE = "duplicate"


class Code(Enum):
    """Every reject code with its outcome and a line saying exactly when it is given."""

    # Definitions: datasets, networks, tasks, parameters, addresses (protocol §1, §2, §3, §7, §8).
    BAD_DATASET = ("bad-dataset", Outcome.INVALID, "a dataset description or its records break §1")
    BAD_NETWORK = ("bad-network", Outcome.INVALID, "a network specification is outside the bounds of §2")
    BAD_TASK = ("bad-task", Outcome.INVALID, "a task, its ladder or its fit to the dataset breaks §3")
    BAD_PARAMS = ("bad-params", Outcome.INVALID, "chain parameters break §8")
    BAD_ADDRESS = ("bad-address", Outcome.INVALID, "a text is not the canonical bech32m form of a key (§7)")

    # Headers (protocol §4, §9).
    CONDEMNED = ("condemned", Outcome.INVALID, "this id was found invalid here before")
    INVALID_ANCESTOR = ("invalid-ancestor", Outcome.INVALID, "an ancestor of this block is invalid")
    WRONG_HEIGHT = ("wrong-height", Outcome.INVALID, "the height is not the parent's plus one")
    WRONG_VERSION = ("wrong-version", Outcome.INVALID, "the header's version is not 1")
    WRONG_TASK = ("wrong-task", Outcome.INVALID, "the header names another task than the chain's")
    TIMESTAMP_TOO_EARLY = (
        "timestamp-too-early",
        Outcome.INVALID,
        "the timestamp is below the parent's plus a quarter of the target interval",
    )
    WRONG_DIFFICULTY = ("wrong-difficulty", Outcome.INVALID, "the difficulty is not the one that §9 requires")
    WRONG_PARENT_WITNESS = (
        "wrong-parent-witness",
        Outcome.INVALID,
        "the committed witness of the parent does not verify, or is not zero above genesis",
    )

    # Transfers (protocol §7), in a block or alone.
    WRONG_TRANSFER_VERSION = ("wrong-transfer-version", Outcome.INVALID, "a transfer's version is not 1")
    WRONG_CHAIN = ("wrong-chain", Outcome.INVALID, "a transfer names another chain")
    BAD_SENDER_KEY = (
        "bad-sender-key",
        Outcome.INVALID,
        "a sender's key is not a canonical encoding of a point, or is of small order",
    )
    BAD_SIGNATURE = ("bad-signature", Outcome.INVALID, "a transfer's signature does not verify")
    WRONG_NONCE = ("wrong-nonce", Outcome.INVALID, "a transfer's nonce is not its sender's next one")
    NONCE_EXHAUSTED = ("nonce-exhausted", Outcome.INVALID, "a transfer's nonce is 2^64 - 1")
    INSUFFICIENT_BALANCE = (
        "insufficient-balance",
        Outcome.INVALID,
        "a sender's balance is below amount plus fee",
    )

    # Deliveries (protocol §4, §6, §10).
    UNDECODABLE = ("undecodable", Outcome.BAD_DELIVERY, "the bytes are not the canonical form of the object")
    TOO_LARGE = ("too-large", Outcome.BAD_DELIVERY, "a count or a length is above the chain's maximum")
    WRONG_TRANSACTIONS_ROOT = (
        "wrong-transactions-root",
        Outcome.BAD_DELIVERY,
        "the transfers do not hash to the header's transactions_root",
    )
    CLAIM_ABOVE_SPLIT = (
        "claim-above-split",
        Outcome.BAD_DELIVERY,
        "a claimed count is above the records of its split",
    )
    CLAIM_BELOW_RUNG = (
        "claim-below-rung",
        Outcome.BAD_DELIVERY,
        "a claimed count is below what the rung demands",
    )
    SOLUTION_LENGTH = ("solution-length", Outcome.BAD_DELIVERY, "the solution's length is not the rung's")
    WEIGHT_OUT_OF_RANGE = ("weight-out-of-range", Outcome.BAD_DELIVERY, "a free weight is -128")
    MULTIPLIER_OUT_OF_RANGE = ("multiplier-out-of-range", Outcome.BAD_DELIVERY, "an M is 2^24 or more")
    OFFSET_OUT_OF_RANGE = ("offset-out-of-range", Outcome.BAD_DELIVERY, "a B is outside ±2^52")
    BIAS_OUT_OF_RANGE = ("bias-out-of-range", Outcome.BAD_DELIVERY, "a bias is outside ±2^30")
    WRONG_TRAIN_COUNT = (
        "wrong-train-count",
        Outcome.BAD_DELIVERY,
        "the network classifies another number of train records than claimed",
    )
    WRONG_EVAL_COUNT = (
        "wrong-eval-count",
        Outcome.BAD_DELIVERY,
        "the network classifies another number of eval records than claimed",
    )
    WRONG_CHUNK = ("wrong-chunk", Outcome.BAD_DELIVERY, "a dataset chunk or hash list differs from its root")

    # May come back.
    UNKNOWN_PARENT = ("unknown-parent", Outcome.NOT_YET, "the parent is not verified here yet")
    FROM_THE_FUTURE = ("from-the-future", Outcome.NOT_YET, "the timestamp is too far ahead of the clock")
    PUT_OFF = ("put-off", Outcome.NOT_YET, "the branch claims too little work to be evaluated")
    MISSING_PARENT_WITNESS = (
        "missing-parent-witness",
        Outcome.NOT_YET,
        "the committed witness of the parent could not be had",
    )

    DUPLICATE = ("duplicate", Outcome.DUPLICATE, "a witness of this id was verified here before")

    def __init__(self, text: str, outcome: Outcome, when: str) -> None:
        self.text = text
        self.outcome = outcome
        self.when = when

    def __str__(self) -> str:
        return self.text


class ConsensusError(Exception):
    """An object was refused: `code` says why, `detail` tells the values it was about.

    Raised as one of the subclasses below; use `build_error` where only the code is known.
    """

    outcome: Outcome

    def __init__(self, code: Code, detail: str = "") -> None:
        if code.outcome is not self.outcome:
            raise ValueError(f"{code} is {code.outcome}, not {self.outcome}")
        super().__init__(code, detail)
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.code}: {self.detail or self.code.when}"


class RuleViolation(ConsensusError):
    """The object breaks a rule; a block id is condemned for ever."""

    outcome = Outcome.INVALID


class BadDelivery(ConsensusError):
    """What was sent is wrong; its sender is a liar, the id it names stays open."""

    outcome = Outcome.BAD_DELIVERY


class NotYet(ConsensusError):
    """It cannot be judged here and now; it may come back."""

    outcome = Outcome.NOT_YET


class Duplicate(ConsensusError):
    """A witness of this id was verified here before."""

    outcome = Outcome.DUPLICATE


_BY_OUTCOME: dict[Outcome, type[ConsensusError]] = {
    kind.outcome: kind for kind in (RuleViolation, BadDelivery, NotYet, Duplicate)
}
_BY_TEXT: dict[str, Code] = {code.text: code for code in Code}


def build_error(code: Code, detail: str = "") -> ConsensusError:
    """The exception of the code's own outcome."""
    return _BY_OUTCOME[code.outcome](code, detail)


def get_code(text: str) -> Code:
    """The code of a kebab-case text. Raises KeyError for a text that is no code."""
    return _BY_TEXT[text]
