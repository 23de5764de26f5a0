"""The addresses of the tests' Django project."""

from django.contrib import admin
from django.urls import path

from wegetfinancing.contrib.django import async_postback_view, postback_view

urlpatterns = [
    path("admin/", admin.site.urls),
    path("postbacks", postback_view()),
    path("async/postbacks", async_postback_view()),
]
