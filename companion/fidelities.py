"""How the papers score the letters of their format.

Tan et al. 2024 define the propensity as a difference of logits, m_LD = score(matching) - score(not matching). Their two
code bases compute it differently, so each way has a name, and none replaces another. Importing this adds the two that
are theirs to `steerkit.propensity.FIDELITIES`:

=========  ==========================================================  ==========  =================
fidelity   a side's score                                              scale       first steered token
=========  ==========================================================  ==========  =================
letter     the answer letter                                           logits      last prompt token
paper      the letter and the `)` after it, as the paper's code sums   logits      last prompt token
bench      the same two tokens, as steering-bench sums them            log-probs   the one after it
=========  ==========================================================  ==========  =================
"""

from functools import partial

from steerkit.errors import need
from steerkit.prompts import Example
from steerkit.propensity import FIDELITIES, Question, two_branches


def _bench(example: Example) -> Question:
    """steering-bench's reading; a letter that comes with its bracket would be predicted before anything is steered."""
    found = f"one token for the bracket and the letter in {example.id}"
    step = "use fidelity=paper, or spelling=template."
    need(bool(example.lead), "a token before the letter that can be steered", found, step)
    return two_branches(example, start=0, closing=1, scale="logprob")


FIDELITIES["paper"] = partial(two_branches, start=-1, closing=1, scale="logit")
FIDELITIES["bench"] = _bench
