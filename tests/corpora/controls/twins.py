"""The healthy twin of every mutant: the same network on the same batch, with the right gradient."""

from tests.corpora import mutants
from tests.corpora.corpus import Case
from tests.corpora.mutants import planted


def twin_of(mutant):
    """Returns the case whose model differs from the mutant's in nothing but what was planted."""

    def build(seed):
        with planted.healthy():
            return mutant.build(seed)

    return Case(
        f"twin_of_{mutant.name}",
        build,
        chaotic=mutant.chaotic,
        note=f"what {mutant.name} should have been",
    )


CASES = [twin_of(mutant) for mutant in mutants.CASES]
