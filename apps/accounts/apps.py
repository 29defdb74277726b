from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apps.accounts"

    def ready(self) -> None:
        from apps.accounts.selectors import admin_actor
        from apps.accounts.services import write_uses
        from apps.accounts.uses import WRITE_SECONDS
        from apps.core import loops
        from apps.core.admin import use_actors

        use_actors(admin_actor)
        loops.register(
            "token uses", lambda stopping: write_uses(), every=WRITE_SECONDS, finishes=True
        )
