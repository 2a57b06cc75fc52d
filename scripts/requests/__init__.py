"""What has to go, what stays, and which part of what stays is read."""

from scripts.requests.cohorts import Cohorts
from scripts.requests.forget_request import ForgetRequest
from scripts.requests.preview import describe_request
from scripts.requests.retain_subset import RetainSubsetSampler, draw_retain_subset

__all__ = ["Cohorts", "ForgetRequest", "RetainSubsetSampler", "describe_request", "draw_retain_subset"]
