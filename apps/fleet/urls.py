from apps.core.routes import route
from apps.fleet import api

urlpatterns = [
    route("environments", api.EnvironmentsView.as_view(), name="environments"),
    route("environments/<int:environment_id>", api.EnvironmentView.as_view(), name="environment"),
    route("services", api.ServicesView.as_view(), name="services"),
    route("services/<int:service_id>", api.ServiceView.as_view(), name="service"),
    route("dependencies", api.DependenciesView.as_view(), name="dependencies"),
    route("dependencies/<int:dependency_id>", api.DependencyView.as_view(), name="dependency"),
    route("instances", api.InstancesView.as_view(), name="instances"),
    route("instances/<uuid:instance_id>", api.InstanceView.as_view(), name="instance"),
]
