"""The shop's addresses."""

from django.contrib import admin
from django.urls import path

from wegetfinancing.contrib.django import postback_view

from . import views

urlpatterns = [
    path("", views.products, name="products"),
    path("checkout/<str:sku>", views.checkout, name="checkout"),
    path("orders/<str:number>", views.order, name="order"),
    path("orders/<str:number>/state", views.order_state, name="order-state"),
    path("orders/<str:number>/application", views.application, name="application"),
    path("postbacks", postback_view(), name="postbacks"),
    path("admin/", admin.site.urls),
]
