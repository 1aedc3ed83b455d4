"""Everything that is checked, and may be copied and spoilt."""

from dataclasses import dataclass

import bundles
import compose
import configuration
import image
import manifests
import workloads


@dataclass(frozen=True)
class Subjects:
    # By name.
    bundles: dict
    recipe: image.Recipe
    compose: dict

    @staticmethod
    def read(facts, renderer):
        loaded = bundles.load(facts.root, renderer)
        return Subjects({bundle.name: bundle for bundle in loaded}, image.Recipe.read(facts.root), compose.read(facts.root))

    @staticmethod
    def problems_of(bundle, facts, scratch):
        """Every problem of one set of resources that is applied together."""
        found = manifests.problems(bundle, facts)
        found += workloads.problems(bundle, facts)
        return found + configuration.problems(bundle, facts, scratch)
