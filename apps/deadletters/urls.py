from apps.core.routes import route
from apps.deadletters.api import capture, letters, redrives, work

urlpatterns = [
    route("dead-letters", letters.LettersView.as_view(), name="dead-letters"),
    route("dead-letters/capture", capture.CaptureView.as_view(), name="dead-letters-capture"),
    route("dead-letters/<int:letter_id>", letters.LetterView.as_view(), name="dead-letter"),
    route(
        "dead-letters/<int:letter_id>/content",
        letters.LetterContentView.as_view(),
        name="dead-letter-content",
    ),
    route(
        "dead-letters/<int:letter_id>/acknowledge",
        letters.LetterAcknowledgeView.as_view(),
        name="dead-letter-acknowledge",
    ),
    route(
        "dead-letters/<int:letter_id>/discard",
        letters.LetterDiscardView.as_view(),
        name="dead-letter-discard",
    ),
    route("dead-letter-groups", letters.GroupsView.as_view(), name="dead-letter-groups"),
    route(
        "dead-letter-groups/<int:group_id>", letters.GroupView.as_view(), name="dead-letter-group"
    ),
    route(
        "dead-letter-groups/<int:group_id>/discard",
        letters.GroupDiscardView.as_view(),
        name="dead-letter-group-discard",
    ),
    route("redrives", redrives.RedrivesView.as_view(), name="redrives"),
    route("redrives/claim", work.ClaimView.as_view(), name="redrives-claim"),
    route("redrives/outcomes", work.OutcomesView.as_view(), name="redrives-outcomes"),
    route("redrives/<int:redrive_id>", redrives.RedriveView.as_view(), name="redrive"),
    route(
        "redrives/<int:redrive_id>/items", redrives.RedriveItemsView.as_view(), name="redrive-items"
    ),
    route(
        "redrives/<int:redrive_id>/pause", redrives.RedrivePauseView.as_view(), name="redrive-pause"
    ),
    route(
        "redrives/<int:redrive_id>/resume",
        redrives.RedriveResumeView.as_view(),
        name="redrive-resume",
    ),
    route("redrives/<int:redrive_id>/end", redrives.RedriveEndView.as_view(), name="redrive-end"),
]
