from apps.core.routes import route
from apps.publication import api

urlpatterns = [
    route("revisions", api.RevisionsView.as_view()),
    route("revisions/<int:number>", api.RevisionView.as_view()),
]
