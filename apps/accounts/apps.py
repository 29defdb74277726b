from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "apps.accounts"

    def ready(self) -> None:
        from apps.accounts.selectors import admin_actor
        from apps.core.admin import use_actors

        use_actors(admin_actor)
