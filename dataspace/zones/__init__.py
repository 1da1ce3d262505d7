"""Zones 产业数据专区: the operator's named membership lists, and policies their members share."""
