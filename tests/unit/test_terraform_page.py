"""docs/terraform.md says what the .tf files say: roles of whoever deploys, variables, outputs."""

import pytest
from tests import provider_schema as provider
from tests import terraform_page


def test_the_page_is_the_one_that_the_files_make():
    """No variable, output or role is missing there, and none is there too many."""
    written = (provider.ROOT / "docs" / "terraform.md").read_text()
    assert written == terraform_page.page(), "python -m tests.terraform_page > docs/terraform.md"


@pytest.mark.parametrize(
    ("needed", "place"),
    [
        ("roles/iam.serviceAccountUser", terraform_page.HOME),
        ("roles/iam.serviceAccountAdmin", terraform_page.FLEET),
        ("roles/osconfig.osPolicyAssignmentAdmin", terraform_page.FLEET),
        ("roles/resourcemanager.folderIamAdmin", terraform_page.ABOVE),
        ("roles/vpcaccess.admin", terraform_page.HOME),
    ],
)
def test_a_role_is_asked_for_where_its_resource_is_made(needed, place):
    """Among them those that are easily forgotten: handing on an account, policies of other projects."""
    assert (place, needed) in {(each.place, each.role) for each in terraform_page.needs()}


def test_a_resource_whose_role_nobody_wrote_down_is_an_error():
    """Whoever adds a resource says which role it takes."""
    with pytest.raises(KeyError):
        list(terraform_page.of("google_bigquery_dataset", {}))


def test_what_a_role_is_only_needed_with_is_a_variable_and_a_type_of_ours():
    """No row speaks of a variable that is gone, and no role is kept for a type that nothing makes."""
    text = "".join(path.read_text() for path in provider.files())
    used = {each.resource for each in terraform_page.needs()}
    assert terraform_page.ROLES.keys() == used
    assert terraform_page.ONLY_WITH.keys() <= used
    for variable in terraform_page.ONLY_WITH.values():
        assert f'variable "{variable}"' in text
