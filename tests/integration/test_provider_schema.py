"""The provider's schema that unit tests hold our Terraform files to is the provider's own."""

import json

from tests import provider_schema as provider
from tests.conftest import needs


def test_the_kept_schema_is_the_one_that_the_provider_publishes():
    """The copy in tests/data is what the provider's wheel says of the resources that our files use."""
    source = provider.published()
    needs(files=(source,))
    fresh = provider.renewed(provider.jsii_types(source))
    assert json.loads(provider.KEPT.read_text()) == json.loads(json.dumps(fresh))
