"""The world of the tests: small functions with defaults, one per thing."""

from itertools import count

from apps.accounts import services as accounts
from apps.accounts.models import ApiToken, User
from apps.core.actor import SCOPES, SYSTEM_SCOPE, Actor
from apps.fleet.models import Dependency, Environment, Service

_numbers = count(1)


def environment(slug: str = "") -> Environment:
    slug = slug or f"environment-{next(_numbers)}"
    return Environment.objects.create(slug=slug, name=slug.title())


def service(where: Environment | None = None, slug: str = "") -> Service:
    slug = slug or f"service-{next(_numbers)}"
    return Service.objects.create(environment=where or environment(), slug=slug)


def dependency(where: Environment | None = None, slug: str = "") -> Dependency:
    slug = slug or f"dependency-{next(_numbers)}"
    return Dependency.objects.create(environment=where or environment(), slug=slug)


def actor(*where: Environment, scopes: frozenset[str] = SCOPES | {SYSTEM_SCOPE}) -> Actor:
    """A person who may do everything in the given environments, unless `scopes` says less."""
    return Actor(
        kind="user",
        id="1",
        label="ana",
        environment_ids=frozenset(place.pk for place in where),
        scopes=scopes,
        source="api",
    )


def user(username: str = "", *, is_superuser: bool = False, password: str = "") -> User:
    username = username or f"user-{next(_numbers)}"
    return User.objects.create_user(
        username, password=password or None, is_staff=True, is_superuser=is_superuser
    )


def token(
    where: Environment | None = None, *, scopes: list[str] | None = None, of: Service | None = None
) -> tuple[ApiToken, str]:
    """A token with every scope of an environment, or of one service of it."""
    place = of.environment if of else where or environment()
    everything = sorted(SCOPES)
    return accounts.create_token(
        "test", scopes=scopes or everything, service=of, actor=actor(place)
    )
