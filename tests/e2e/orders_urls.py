"""The addresses of the Django builds of the orders service."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from tests.e2e import orders


@csrf_exempt
def place_order(request: HttpRequest) -> HttpResponse:
    return HttpResponse(orders.charge(), status=201)


def show_state(request: HttpRequest) -> JsonResponse:
    return JsonResponse(orders.state())


urlpatterns = [path("orders", place_order), path("state", show_state)]
