"""Every documented operation, fed everything its schema allows and much it does not.

Schemathesis makes the requests from the OpenAPI document; none may end in a 5xx, in a status the
document does not name, or in a body that does not have the documented shape.
"""

from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from tests import make

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
schema = schemathesis.openapi.from_wsgi("/api/v1/schema?format=json", get_wsgi_application())


@pytest.fixture
def authorization(transactional_db: None) -> dict[str, str]:
    """A token that may do everything in an environment where there is something of each kind."""
    environment = make.environment()
    make.service(environment)
    make.dependency(environment)
    _token, text = make.token(environment)
    return {"Authorization": f"Bearer {text}"}


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,  # a failure is the code's, not the dice's
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_breaks_the_api(
    case: schemathesis.Case[Any], authorization: dict[str, str]
) -> None:
    response = case.call(headers=authorization)

    case.validate_response(response, checks=CHECKS)
